{{- define "firstlook.labels" -}}
app.kubernetes.io/name: firstlook
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "firstlook.fullLabels" -}}
{{ include "firstlook.labels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- define "firstlook.claim" -}}
{{ .Values.storage.existingClaim | default (printf "%s-firstlook" .Release.Name) }}
{{- end }}
