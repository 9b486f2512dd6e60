-- Send each image that may show a chest (CT, CR, DX) to firstlook, and nothing else. What firstlook makes has the
-- modality SEG, SR or OT, so a result is never sent back.
-- While firstlook is away the jobs fail and are tried again each LuaHeartBeatPeriod (Orthanc 1.11.1 or newer).

local FIRSTLOOK = "firstlook"
local WANTED = { CT = true, CR = true, DX = true }

function OnStoredInstance(instanceId, tags, metadata, origin)
  if WANTED[tags["Modality"]] and origin["RemoteAet"] ~= "FIRSTLOOK" then
    -- Asynchronous: whoever sends to the PACS does not wait for firstlook.
    local job = { Resources = { instanceId }, Asynchronous = true }
    RestApiPost("/modalities/" .. FIRSTLOOK .. "/store", DumpJson(job, true))
  end
end

function OnHeartBeat()
  for _, id in ipairs(ParseJson(RestApiGet("/jobs"))) do
    local job = ParseJson(RestApiGet("/jobs/" .. id))
    if job["State"] == "Failure" and job["Type"] == "DicomModalityStore" then
      RestApiPost("/jobs/" .. id .. "/resubmit", "{}")
    end
  end
end
