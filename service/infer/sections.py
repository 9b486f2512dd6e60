"""The settings of the models: which, where they run, and how far their images may drift."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Section(BaseModel):
    """A table of the settings: frozen, and no key but these."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Infer(Section):
    """Models and the hardware that they run on."""

    models_dir: Path = Field(Path(__file__).parents[2] / "models", description="Folder of the bundles.")
    device: str = Field("auto", pattern="^(auto|cpu|cuda)$", description="auto: CUDA where it works, else CPU; cpu; cuda.")
    engine: str = Field("local", pattern="^(local|ray)$", description="Where the models run: local, on this machine; ray, "
                        "on a Ray cluster (extra ray).")
    ray_address: str = Field("auto", description="The cluster: HOST:PORT on one of its nodes, auto for the one that this "
                             "machine belongs to, ray://HOST:PORT from outside.")
    ray_sessions: int = Field(2, ge=1, le=256, description="Sessions of each bundle on the cluster, as far as it has room.")
    ray_timeout_s: float = Field(60.0, gt=0, le=3600, description="A session that gives no answer for so long is replaced, "
                                 "seconds.")
    threads: int = Field(0, ge=0, le=256, description="CPU threads the models use; 0: all cores.")
    precision: str = Field("auto", pattern="^(auto|fp32|int8|fp16)$",
                           description="auto: the file a bundle names for the device; else this one where it has it.")
    gpus: tuple[int, ...] = Field((0,), description="Numbers of the GPUs that may be used; [placement] devices of a "
                                  "manifest picks of these.")
    memory_bytes: int = Field(0, ge=0, description="Memory that the sessions on one device (a GPU, the CPU) may take, "
                              "bytes; what was not used for longest makes room, on a GPU it bounds the arena. 0: no limit.")
    run_timeout_s: float = Field(60.0, ge=0, le=3600, description="A run of a model that takes longer is stopped, its "
                                 "session replaced and its job tried again, seconds; 0: never.")
    tensorrt: bool = Field(False, description="On a GPU, try TensorRT before CUDA; what it builds is kept in data_dir.")
    ct_bundles: tuple[str, ...] = Field(("ct-lung-infection",), description="Bundles for chest CT, the leading one first.")
    cxr_bundles: tuple[str, ...] = Field(("cxr-pattern", "cxr-findings"),
                                         description="Bundles for radiographs, the leading one first.")
    first_look_mm: float = Field(6.0, ge=0, le=10, description="A first look at a CT takes slices up to so far apart, mm, "
                                 "and flags the study early; the full look revises it. 0: none.")
    cxr_gate: str = Field("cxr-quality", description="Bundle that judges each radiograph before these; empty: none.")
    cxr_lungs: str = Field("cxr-lungs", description="Bundle that finds lung fields, to place findings; empty: none.")

    shadow_bundles: tuple[str, ...] = Field((), description="Bundles that look beside the active ones, when nothing else "
                                            "is to be done; what they say is compared and never shown or sent.")

    @field_validator("ct_bundles", "cxr_bundles", "shadow_bundles")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value) or "" in value:
            raise ValueError("a bundle is named twice, or has no name")
        return value

    @property
    def bundles(self) -> tuple[str, ...]:
        """The names of all bundles in use."""
        return (*self.ct_bundles, *self.cxr_bundles, *filter(None, (self.cxr_gate, self.cxr_lungs)))


class Drift(Section):
    """How far images and scores have moved from what a bundle was measured on, by scanner and site."""

    days: int = Field(28, ge=0, le=366, description="So many days are compared with the bundle's reference; 0: none.")
    least_images: int = Field(200, ge=50, description="Of a scanner and site with fewer images nothing is said.")
