"""Every error snncc can raise: one code each, all problems at once, an exit code a family.

A message reads *where: what is wrong, got X, limit Y. Try Z.* An exception carries one or more
:class:`Problem`; the command line prints them all, ``--json`` gives them as objects, and
``snncc explain CODE`` prints the paragraph that stands here. A package brings codes of its own under
the entry point group ``snncc.errors``, see :func:`codes`.

    SnnccError
      ModelError       exit 1   the model cannot be compiled as it is
      DataError        exit 1   the data given to a command do not fit the model
      ToolError        exit 1   an optional tool outside snncc is missing or fails
      UsageError       exit 2   a wrong option, path or name
      CapacityError    exit 3   the network does not fit the chip
      EquivalenceError exit 4   the spikes do not compute the integers
      UnsafeFileError  exit 5   a foreign file tries something that data must not
      InternalError    exit 70  our bug
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        code: stable identifier, a key of :func:`codes`.
        where: what it concerns: a file, a layer, an option.
        what: what is wrong with it.
        got: the value found, if it says something.
        limit: the value allowed, if it says something.
        hint: what the user can do.
    """

    code: str
    where: str
    what: str
    got: str | None = None
    limit: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}"
        if self.got is not None:
            text += f", got {self.got}"
        if self.limit is not None:
            text += f", limit {self.limit}"
        text += "."
        return f"{text} Try {self.hint}." if self.hint else text

    def as_dict(self) -> dict[str, str | None]:
        """The problem as plain JSON values."""
        return asdict(self)


class SnnccError(Exception):
    """Base of all errors; ``exit_code`` is what the command line returns."""

    exit_code = 70

    def __init__(self, *problems: Problem) -> None:
        if not problems:
            raise ValueError("an SnnccError needs at least one problem")
        self.problems = problems
        super().__init__("\n".join(f"[{p.code}] {p}" for p in problems))

    @property
    def code(self) -> str:
        """Code of the first problem."""
        return self.problems[0].code


class ModelError(SnnccError):
    """The model cannot be compiled as it is."""

    exit_code = 1


class DataError(SnnccError):
    """The data given to a command do not fit the model."""

    exit_code = 1


class ToolError(SnnccError):
    """An optional tool outside snncc is missing or fails."""

    exit_code = 1


class UsageError(SnnccError):
    """A wrong option, path or name."""

    exit_code = 2


class CapacityError(SnnccError):
    """The network does not fit the chip."""

    exit_code = 3


class EquivalenceError(SnnccError):
    """The exported spikes do not compute the trained integers."""

    exit_code = 4


class UnsafeFileError(SnnccError):
    """A foreign file tries something that data must not do."""

    exit_code = 5


class InternalError(SnnccError):
    """A bug of snncc."""

    exit_code = 70


@dataclass(frozen=True, slots=True)
class CodeInfo:
    """What ``snncc explain`` prints for a code.

    Attributes:
        error: the class of the exception that carries it, which says the exit code.
        title: one line.
        explanation: what it means, why, and what the user can do.
    """

    error: type[SnnccError]
    title: str
    explanation: str


CODES: dict[str, CodeInfo] = {
    # model files
    "SNNC-M001": CodeInfo(ModelError, "not a model file", "The file is none of the formats snncc reads: a torch `.pt` whole module or state dict, a `.pt2` of `torch.export.save`, or a graph file `.snnc` written by `snncc.export`. A truncated or damaged file ends here too."),
    "SNNC-M002": CodeInfo(ModelError, "class not on the allow-list", "A whole-module `.pt` names Python classes. snncc builds only classes of torch.nn, snncc_torch.nn and spikingjelly; anything else could run code while it loads. In the training script call `snncc.export(module, example_input, 'model.snnc')`, or give the constructor: `--model pkg.mod:factory --weights sd.pt`."),
    "SNNC-M003": CodeInfo(ModelError, "input shape or timesteps unknown", "The file says nothing about the shape of one sample (without batch and time) or the number of timesteps. Give `--input-shape C,H,W` and `--timesteps T`, or write them into the module with `snncc_torch.describe(module, ...)` before saving."),
    "SNNC-M004": CodeInfo(ModelError, "unsupported layer", "The model holds an operation that snncc has no semantics for. The message names the module and the operation; replace it by a supported one or keep it on the host, outside the exported module."),
    "SNNC-M005": CodeInfo(ModelError, "unrecognised neuron", "A module holds state or fires, but is none of the neurons that snncc knows bit for bit, or behaves differently from the class whose name it bears. A neuron of your own is declared with `snncc.register_neuron('pkg.Class')` and then checked against the module like the built-in ones."),
    "SNNC-M006": CodeInfo(ModelError, "capture differs from the module", "After capture the graph is run beside the PyTorch module on two random inputs and on the example. They differ by more than float rounding allows, so the graph is not the model; nothing is compiled."),
    "SNNC-M007": CodeInfo(ModelError, "NaN or infinity in the parameters", "A weight, bias, statistic or neuron parameter is not a finite number."),
    "SNNC-M008": CodeInfo(ModelError, "module is in training mode", "BatchNorm and Dropout behave differently in training. Call `module.eval()` before saving or exporting."),
    "SNNC-M009": CodeInfo(ModelError, "attribute of a wrong type", "An attribute of a module in the file has a type or value that the layer cannot have (a stride that is text, a forward that is data). The file is damaged or forged."),
    "SNNC-M010": CodeInfo(ModelError, "ill-formed graph", "A graph breaks a rule of the IR: a value used before it is defined, a type that does not fit, a node that its family does not have."),
    "SNNC-M011": CodeInfo(ModelError, "text form cannot be parsed", "The text form of a graph has a syntax error; the message gives line and column."),
    "SNNC-M012": CodeInfo(ModelError, "no pass lowers the operation", "The operation is understood, but no pass of this target turns it into weights, sums and neurons. Every target takes linear layers and convolutions, batch normalisation, scales, sums, concatenation along channels, average and sum pooling, means over rows and columns, reshapes and permutations. Products of two spike values (attention), delays and maximum pooling it does not take. Average pooling or a convolution with a stride in place of maximum pooling, or a linear layer in place of a mean over other axes, work on all targets; the network must be trained with them. A backend's own pass may take more: it names the kind under `lowers`, and its target then compiles what others refuse. `snncc inspect FILE` shows the graph with the names in the message."),
    "SNNC-M013": CodeInfo(ModelError, "capture failed", "torch.export could not trace the module, most often because control flow depends on the data or because a module cannot be traced at batch 1."),
    "SNNC-M014": CodeInfo(ModelError, "threshold vanishes in integers", "With the weight scale that the chip's accumulator allows, the firing threshold rounds below 1. The layer's sums are too large against its threshold."),
    "SNNC-M015": CodeInfo(ModelError, "optional package missing", "Reading this model needs an optional package that is not installed."),
    "SNNC-M016": CodeInfo(ModelError, "nothing captures this object", "`snncc.export(object, ...)` hands the object to the frontend that is installed for its library: the first package, going up its class and the classes it inherits from, under whose name a function stands in the entry point group `snncc.exporters`. None stands for this one. `snncc.register_neuron(..., library=NAME)` looks in the group `snncc.neurons` in the same way. A `torch.nn.Module` needs snncc's own PyTorch frontend, which comes with snncc; pass the module itself, not its output, its state dict or a function around it."),
    "SNNC-M017": CodeInfo(ModelError, "real-valued operation", "Softmax, layer normalisation, GELU and their like make real numbers of real numbers. A chip adds weights where spikes arrive and compares sums with thresholds; no number of spikes computes them exactly, and snncc puts no approximation in their place. Put a neuron there and train it (`snncc_torch.nn.SFA` for an activation, batch normalisation for layer normalisation), or leave the operation out of the exported module: apply it to the inputs before, or to the results after (the largest class score needs no softmax)."),
    "SNNC-M018": CodeInfo(ModelError, "a part without neurons", "On a chip every layer of weights drives neurons, and only spikes travel. Real-valued inputs are the host's: it computes the layers up to and with the first neurons, and what these send is all that the chip gets. So one layer of neurons must end that part, no path may lead around it, neurons must follow on the chip, and between two layers of weights there must be neurons as well. Put a neuron behind the first layer and take every shortcut from behind it; put a neuron between the two layers of weights, or multiply them into one; or give the network spikes (whole counts) as inputs with `input_levels`, so that the chip computes all of it."),
    "SNNC-M019": CodeInfo(ModelError, "a result that no neuron holds", "A result is read from neurons, in one of two ways: the spikes of the last layer are counted, or its sums stay in the membranes of neurons that never fire and are read once, behind the last timestep. A result made of several spike values (a pooling or a sum behind the last neurons), or real values for every timestep, is neither. End the module with a neuron or with a linear layer, and take the mean or the sum over time inside the module."),
    "SNNC-M020": CodeInfo(ModelError, "one number for the whole layer", "Thresholds that differ between the channels of a layer move into its weights: weights, bias and potentials of channel c are divided by its threshold, which computes the same spikes. That needs weights of its own for every channel; here they serve other neurons as well (a stream that several layers read), or a change of layout moves the channels before the neurons, or products of spikes drive them, which have no weights. Train with one threshold there. A readout has one gain for all its channels, since its membranes are the result, in one unit. A synaptic current that decays before it is read has one leak for the layer. On the chips a bias is one number a channel. A bias differs within a channel where a reshape or permutation behind a layer with a bias makes channels of its rows: move it behind the neurons, or use bias=False."),
    "SNNC-M021": CodeInfo(ModelError, "neuron without an integer form", "The neuron is understood and runs in floating point, but one of its rules has no exact counterpart in integers yet: a reset that acts one timestep late, a memory that is never reset, a gain that is not positive, or a synaptic current that takes a bias, forgets at once, or decays before a readout reads it. The message names the rule and what takes its place; most need no more than an option of the neuron (reset by subtraction in the same timestep, bias=False in front of a synaptic current) and some training."),
    "SNNC-M022": CodeInfo(ModelError, "no address function", "A spike carries an address (channel, y, x), and the chip finds the synapses behind it by arithmetic: kernel, stride, padding, dilation, and a pooling whose windows neither overlap nor are padded. There is no table of synapses. What is no such arithmetic is refused: maps of another rank than [C, H, W] or [C], a pooling between weights and neurons or with stride other than its kernel, a convolution behind a reshape or permutation that moves its channels, spikes joined along rows or columns, a linear layer over several rows. Pool right behind neurons with stride = kernel and no padding, on maps that the kernel divides; keep one layout up to the last linear layer; write a linear layer over rows as a 1×1 convolution."),
    "SNNC-M023": CodeInfo(ModelError, "branches that do not meet", "Two values are added or joined that are not alike: a spike of one is worth another number than a spike of the other (their D, normalisation or pooling differ), or the sum of one layer of weights is wanted by neurons that fire at different times, and a sum cannot wait (spikes can: a shortcut of spikes is delayed). Use the same D, normalisation and pooling on both branches; put a neuron in front of the shortcut, so that spikes travel; or choose a target that copies or relays such sums (`loihi2`, `sim`)."),
    "SNNC-M024": CodeInfo(ModelError, "schedule without windows", "In the free schedules a neuron fires as soon as its membrane reaches the threshold. Nothing separates the spikes of one timestep from those of the next, and a relay, which sends a whole sum at once, could not know when the sum is complete. Networks of several timesteps and shortcuts that are relayed need windows: `--schedule exact` on a clocked target (`loihi2`, `sim`), which also promises the integers bit for bit."),
    "SNNC-M025": CodeInfo(ModelError, "mask that does not fit", "A masked encoder covers whole patches of its image, and every convolution works at the sites that are left. The mask has the size of the map whose sites it closes; a stage at 1/s of the image takes every s-th of its sites, so that patches must be a multiple of s pixels (16 or 32 for an encoder down to 1/16). A convolution without its gates (VSC in place of SSC) computes the same only where no site is closed: with an even kernel the centres of sites at the border may lie outside the map, which closes them under every mask."),
    # data
    "SNNC-M026": CodeInfo(ModelError, "nothing fires", "Rates, accumulates and their energy are those of spikes. Either the network has no spiking neuron (`snncc inspect --table` counts the operations of any), or none fired on these inputs: they may be scaled otherwise than in training (0..255 for 0..1), or of another kind."),
    "SNNC-D001": CodeInfo(DataError, "data file unreadable", "`--data` and `--calib` take an `.npz` file with an array `x`."),
    "SNNC-D002": CodeInfo(DataError, "array missing", "The `.npz` file has no array of that name. It must hold `x` of shape [N,C,H,W] or [N,T,C,H,W], and may hold `y` of shape [N]."),
    "SNNC-D003": CodeInfo(DataError, "wrong dtype", "`x` must be integers or floats; `y` must be integers."),
    "SNNC-D004": CodeInfo(DataError, "wrong shape", "The array's shape does not match the model's input: [N,C,H,W] for one timestep, [N,T,C,H,W] for T."),
    "SNNC-D005": CodeInfo(DataError, "NaN or infinity in the data", "Inputs must be finite numbers."),
    "SNNC-D006": CodeInfo(DataError, "value outside the input's levels", "The model's input is a spike count 0..levels; a value is no whole number or lies outside."),
    "SNNC-D007": CodeInfo(DataError, "calibration inputs needed", "Quantization chooses weight scales from the sums that real inputs cause. The model carries no calibration inputs; give some with `--calib x.npz`."),
    "SNNC-D008": CodeInfo(DataError, "data file too large", "The file would take more memory than the reader allows."),
    "SNNC-D009": CodeInfo(DataError, "label outside the classes", "`y` holds a class number below 0 or at least the number of the network's results."),
    # usage
    "SNNC-U001": CodeInfo(UsageError, "no such file", "The path does not exist or is not a regular file."),
    "SNNC-U002": CodeInfo(UsageError, "output exists", "The output path is there already. `--force` replaces an artifact that snncc wrote; anything else is never overwritten."),
    "SNNC-U003": CodeInfo(UsageError, "output not writable", "The folder that should hold the output cannot be written."),
    "SNNC-U004": CodeInfo(UsageError, "unknown target", "`snncc targets` lists the chips that are installed."),
    "SNNC-U005": CodeInfo(UsageError, "wrong option", "An option has a value that it cannot have."),
    "SNNC-U006": CodeInfo(UsageError, "not an artifact", "The folder is not what `snncc compile` writes: its manifest is missing, of another schema, or a file differs from its recorded hash."),
    "SNNC-U007": CodeInfo(UsageError, "unknown error code", "`snncc explain` without a code lists all of them."),
    "SNNC-U008": CodeInfo(UsageError, "duplicate plugin name", "Two installed packages register the same name. Uninstall one."),
    "SNNC-U009": CodeInfo(UsageError, "chip description invalid", "A chip's TOML file has a missing, unknown or mistyped key, or names a backend that is not installed, or its backend cannot keep it: it lacks a number that the backend needs, or sets a limit that the backend does not check and a network could therefore exceed. `snncc targets show NAME` shows the values of a chip that works."),
    "SNNC-U010": CodeInfo(UsageError, "factory cannot be used", "`--model pkg.mod:factory` must name a callable that returns a torch.nn.Module."),
    "SNNC-U011": CodeInfo(UsageError, "pass out of its place", "A pass declares the families of graphs that it takes and gives, and the passes whose work it builds on. In this pipeline it would get a graph of another family, a pass that it builds on does not stand before it, or its result is of another family than it says. Nothing is wrong with the model: the pipeline (`snncc.passes.pipelines.to_integers`, or the backend's own passes handed to it) must be put in another order."),
    "SNNC-U012": CodeInfo(UsageError, "plugin cannot be used", "An installed package registers something under one of snncc's entry point groups (`snncc.targets`, `snncc.backends`, `snncc.frontends`, `snncc.errors` and others), but importing it fails, or it is not what the group holds. Error codes are a mapping from codes such as `ACME-M001` (a prefix, a letter, three digits) to `snncc.errors.CodeInfo`, whose class is one of the exceptions in `snncc.errors`. The message names the entry point and its package's module: install the package again, or remove it."),
    "SNNC-U013": CodeInfo(UsageError, "chip profile does not apply", "`--chip` on `simulate` and `report` costs a network under the description of another chip than the one in the artifact. That needs cores where the network's neurons stand, and events of the kinds that it sends: a mesh for a network on a mesh, a list of cores for one of a chip with such, no cores for one of an ideal chip. To place the network on another chip, compile it for that chip."),
    # capacity
    "SNNC-C001": CodeInfo(CapacityError, "kernel memory", "The layer needs more kernel words than any core has. Speck pads to powers of two: words = channels_in · 2^(⌈log2 kx·ky⌉ + ⌈log2 features⌉); the gate of the exact schedule adds one input channel."),
    "SNNC-C002": CodeInfo(CapacityError, "neuron memory", "The layer needs more neuron words than any core has. Speck pads to powers of two: words = features · 2^(⌈log2 height⌉ + ⌈log2 width⌉)."),
    "SNNC-C003": CodeInfo(CapacityError, "too many layers", "The network has more spiking layers than the chip has cores."),
    "SNNC-C004": CodeInfo(CapacityError, "no placement", "Every layer fits some core, but not all at once: the message names layers that compete for the same cores."),
    "SNNC-C005": CodeInfo(CapacityError, "kernel size", "The kernel is larger than, or shaped differently from, what a core can hold."),
    "SNNC-C006": CodeInfo(CapacityError, "stride, padding or pooling", "A geometry value is outside the set that a core can be configured to."),
    "SNNC-C007": CodeInfo(CapacityError, "map size", "A feature map is larger than a core can address."),
    "SNNC-C008": CodeInfo(CapacityError, "fan-out", "A layer feeds more destinations than a core can address."),
    "SNNC-C009": CodeInfo(CapacityError, "integer range", "A threshold, initial value or sum does not fit the chip's word."),
    "SNNC-C010": CodeInfo(CapacityError, "the chip has no such neuron", "The neuron needs what this chip's neurons have not: a leak between timesteps, a reset to zero or by subtraction, a lower clamp, a start value, a synaptic current, a threshold, leak or reset of its own for each channel (`--per-channel` asks for thresholds), or a program of its own. `snncc targets show NAME` lists what a chip can; with one timestep most of it is not asked for."),
    "SNNC-C011": CodeInfo(CapacityError, "gate cannot reach", "In the gated schedule one control event must reach every output site through one tap; with this kernel, stride and padding some sites cannot be reached."),
    "SNNC-C012": CodeInfo(CapacityError, "connection the chip cannot make", "The layer's inputs cannot be joined as this chip joins them (on Speck: spikes of equal shape that go through the same kernel), its spikes must wait longer than the chip's synaptic delays, or a layer works at some sites of its map only (a masked encoder), which the chip's programs cannot say."),
    "SNNC-C013": CodeInfo(CapacityError, "one neuron exceeds a core", "Layers are cut into blocks until every block fits a core of the chip. Here a block of a single neuron is still too large: its inputs, their synapses, or the cores that it must reach are more than one core holds. The message names the resource; `snncc targets show NAME` lists the limits with their sources."),
    "SNNC-C014": CodeInfo(CapacityError, "too many cores", "Cut into blocks that fit, the network takes more cores than all chips of the system have. The message names the layers with the most blocks."),
    "SNNC-C015": CodeInfo(CapacityError, "schedule the chip cannot run", "The schedule asks for what this chip has not: micro-steps of a clock; windows, in which a neuron gathers all input of a timestep before it fires; a second accumulator for the next timestep's input meanwhile; or a neuron that stops after its largest count. Single spikes, one timestep or another schedule ask for less; `snncc targets show NAME` lists what a chip can."),
    "SNNC-C016": CodeInfo(CapacityError, "events the chip has not", "The network sends events that carry a number, or a sign, and this chip's events say only that a neuron fired. The schedule `exact` sends counts as so many single events."),
    "SNNC-C017": CodeInfo(CapacityError, "membranes that cannot be read", "The result is the membrane potential of the last layer, which this chip does not give back. A last layer that fires delivers spike counts instead."),
    # equivalence
    "SNNC-Q001": CodeInfo(EquivalenceError, "spikes differ from integers", "The spike counts of the exported network are not the integers of the legalised integer graph. `first_divergence` gives sample, layer and neuron."),
    "SNNC-Q002": CodeInfo(EquivalenceError, "calibrated range left", "The certificate of some layer holds on the calibration inputs only, and a sample left the range for which the schedule was made. Compile again with calibration inputs that cover the data."),
    "SNNC-Q003": CodeInfo(EquivalenceError, "chip files differ from what was verified", "`snncc verify` emits the chip files anew from the mapped network that it compared with the integers. A file in `target/` differs from that, is missing, or stands there without being emitted, so that nothing is known of what the chip would compute. Compile again; if the artifact was written by another version of snncc, only that version can verify it."),
    "SNNC-Q004": CodeInfo(EquivalenceError, "parts of the artifact disagree", "Each part of an artifact follows from the one before it: the spike graph from the integer graph, the mapped network from the spike graph, the certificate from all of them and the calibration inputs. Two parts contradict each other, so that the artifact describes no one network. Compile again."),
    "SNNC-Q005": CodeInfo(EquivalenceError, "chip files not checked", "The chip files can be compared with the verified network only where the backend that emitted them is installed, with all that it needs. Install it and verify again; until then nothing is claimed of the files."),
    # unsafe
    "SNNC-S001": CodeInfo(UnsafeFileError, "pickle that runs code", "The file's pickle stream calls something else than torch's tensor rebuilders. It was not loaded."),
    "SNNC-S002": CodeInfo(UnsafeFileError, "file exceeds a limit", "Sizes are bounded before anything is allocated; the file declares more than that."),
    "SNNC-S003": CodeInfo(UnsafeFileError, "path leaves the folder", "A name inside the file is absolute, contains `..`, or is a link."),
    # tools
    "SNNC-T001": CodeInfo(ToolError, "no Lava environment", "Lava needs Python 3.10 and numpy below 2, so it runs in an environment of its own. `make lava-env` makes `.venv-lava`; another one is named by the variable SNNCC_LAVA_PYTHON, which holds the path of its interpreter. Compiling, verifying and simulating need no Lava."),
    "SNNC-T002": CodeInfo(ToolError, "wrong versions in the Lava environment", "Networks are made for lava-nc 0.10, the last release, which needs numpy below 2. `make lava-env` installs both."),
    "SNNC-T003": CodeInfo(ToolError, "Lava run failed", "A process of the Lava run ended with an error; the message holds the end of its traceback. Nothing of the run is left, neither processes nor shared memory."),
    "SNNC-T004": CodeInfo(ToolError, "Lava run out of time", "The run did not end within its time limit and was given up. Lava simulates slowly (its convolution computes every pair of channels by itself), and it hangs where one of its processes waits for another."),
    "SNNC-T005": CodeInfo(ToolError, "Lava run without a result", "The run ended as if all were well, but left no results file."),
    "SNNC-T006": CodeInfo(ToolError, "network refused", "The Lava folder contradicts itself (a population that no connection reaches, arrays that are missing or of another shape), or the inputs do not fit it. Lava itself would run such a network and deliver zeros. Compile again."),
    "SNNC-T007": CodeInfo(ToolError, "package for chip files missing", "Writing the files of this chip needs an optional Python package. The message names it and the extra of snncc that installs it."),
    # ours
    "SNNC-X001": CodeInfo(InternalError, "internal error", "This is a bug of snncc. Please report it with the command and the message."),
}  # fmt: skip

# When several kinds of problem come together the most basic decides the exception and exit code.
_PRECEDENCE: tuple[type[SnnccError], ...] = (
    InternalError,
    UnsafeFileError,
    UsageError,
    ToolError,
    ModelError,
    DataError,
    CapacityError,
    EquivalenceError,
)


# A package's prefix, a letter for the kind, three digits.
_CODE = re.compile(r"[A-Z][A-Z0-9]*-[A-Z][0-9]{3}")


@cache
def codes() -> Mapping[str, CodeInfo]:
    """All codes: those of snncc, and those of installed packages.

    A package registers a mapping of its codes as an entry point of the group ``snncc.errors``; a code
    reads ``ACME-M001``, and its class is one of the exceptions here.

    Raises:
        UsageError: SNNC-U008 where two packages claim one code, SNNC-U012 for what is no such mapping.
    """
    from importlib.metadata import entry_points  # slow to import, and most runs never come here

    found, owner = dict(CODES), dict.fromkeys(CODES, "snncc")
    for point in entry_points(group="snncc.errors"):
        for code, info in _registered(point).items():
            if found.setdefault(code, info) is not info:
                got = f"{owner[code]} and {point.value}"
                raise fail("SNNC-U008", f"errors '{code}'", "two packages register this name", got=got)
            owner[code] = point.value
    return found


def _registered(point: EntryPoint) -> Mapping[str, CodeInfo]:
    """The codes that a package registers, each checked."""
    where, found = _where(point), loaded(point)
    if not isinstance(found, Mapping):
        raise fail("SNNC-U012", where, "is no mapping of codes", got=type(found).__name__)
    for code, info in found.items():
        if not isinstance(code, str) or not _CODE.fullmatch(code):
            raise fail("SNNC-U012", where, "holds what is no code", got=repr(code), limit="like ACME-M001")
        if not isinstance(info, CodeInfo) or info.error not in _PRECEDENCE:
            what = f"{code} is no CodeInfo with a class of snncc.errors"
            raise fail("SNNC-U012", where, what, got=repr(info)[:80])
    return found


def loaded(point: EntryPoint) -> Any:
    """What an entry point names.

    Raises:
        UsageError: SNNC-U012 where it cannot be imported.
    """
    try:
        return point.load()
    except Exception as error:  # a package's own code: whatever it raises, snncc says which package
        got = f"{type(error).__name__}: {error}"
        hint = "installing the package again, or removing it"
        what = f"{point.value} cannot be loaded"
        raise fail("SNNC-U012", _where(point), what, got=got, hint=hint) from error


def _where(point: EntryPoint) -> str:
    return f"entry point {point.group} '{point.name}'"


def find_code(code: str) -> CodeInfo | None:
    """What is known of a code, None if no installed package registers it; packages are asked last."""
    return CODES.get(code) or codes().get(code)


def _info(code: str) -> CodeInfo:
    found = find_code(code)
    if found is None:
        hint = "an entry point of the group snncc.errors that holds it"
        raise fail("SNNC-X001", f"error code {code}", "is registered by no installed package", hint=hint)
    return found


def problem(
    code: str, where: str, what: str, *, got: Any = None, limit: Any = None, hint: str | None = None
) -> Problem:
    """A :class:`Problem`; ``got`` and ``limit`` are turned into text.

    Raises:
        InternalError: SNNC-X001 if no installed package registers ``code``.
    """
    _info(code)

    def text(value: Any) -> str | None:
        return None if value is None else str(value)

    return Problem(code, where, what, text(got), text(limit), hint)


def error_of(problems: Iterable[Problem]) -> SnnccError:
    """The exception that carries ``problems``: its class is that of the most basic one."""
    found = tuple(problems)
    classes = {_info(p.code).error for p in found}
    cls = next(c for c in _PRECEDENCE if c in classes)
    ordered = sorted(found, key=lambda p: _info(p.code).error is not cls)
    return cls(*ordered)


def fail(
    code: str, where: str, what: str, *, got: Any = None, limit: Any = None, hint: str | None = None
) -> SnnccError:
    """The exception for a single problem, to be raised by the caller."""
    return error_of([problem(code, where, what, got=got, limit=limit, hint=hint)])


def raise_all(problems: Iterable[Problem]) -> None:
    """Raise one exception that carries all ``problems``, or return if there are none."""
    found = tuple(problems)
    if found:
        raise error_of(found)
