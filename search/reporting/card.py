"""The card of an exported model: what it is, its training data, and its scores beside the bar."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from search.run_folder.chosen import Chosen
from search.run_folder.search_record import SearchRecord
from search.run_folder.summary import Summary
from search.space.recorded_experiments import RECORDED_BAR
from trainables.model.build import MODELS


@dataclass(frozen=True)
class Card:
    """The card of one export.

    Attributes:
        record: The search.
        chosen: The exported model.
        summary: The search's outcome; None if it has not ended.
        stock_dice: Dice of the exported files on the validation regions: by stock SAM2ImagePredictor, or by this
            project's evaluator if they hold class prompts or nothing could be merged.
        unmergeable: The part that no stock checkpoint can hold, so that there is no ``sam2.pt``; empty if there is one.
        has_choice: Whether the search made its choice; else it is the best trial so far, as trained.
    """

    record: SearchRecord
    chosen: Chosen
    summary: Summary | None
    stock_dice: float
    unmergeable: str = ""
    has_choice: bool = True

    def to_markdown(self) -> str:
        """Returns the whole card."""
        parts = [
            self._describe_model(),
            self._describe_scores(),
            self._describe_data(),
            self._describe_use(),
            self._describe_recipe(),
        ]
        return "\n\n".join(parts) + "\n"

    def _describe_model(self) -> str:
        record, chosen = self.record, self.chosen
        caveats = self.summary.origin.caveats if self.summary else record.caveats
        marks = [f"Made with {record.demo}: its numbers say nothing about tissue."] if record.demo else []
        marks += [f"{caveat[0].upper()}{caveat[1:]}." for caveat in caveats]
        warnings = "".join(f"\n\n**{mark}**" for mark in marks)
        seeds = (
            f"It was the best of {chosen.n_finalists} configurations by mean validation Dice over {chosen.n_seeds} "
            f"seeds ({chosen.seeds_mean:.4f}, standard deviation {chosen.seeds_std:.4f})."
            if chosen.n_finalists
            else "It was not confirmed with other seeds."
        )
        refit = " It was then trained on all training and validation regions together." if chosen.refit else ""
        origin = "the best of several scales on validation" if self.has_choice else "no other scale was tried"
        scale = (
            "Weights and class prompts are as trained."
            if record.context.protocol.is_auto
            else f"The change of the weights is multiplied by {chosen.scale:g} (WiSE-FT, Wortsman et al. 2022; 1 is "
            f"the fine-tune as trained, 0 is zero-shot), {origin}."
        )
        return (
            f"# SAM2 `{record.context.model}`, fine-tuned by search `{record.search_id}`{warnings}\n\n"
            f"Configuration of trial `{chosen.trial_id}`, seed {chosen.seed}, epoch {chosen.epoch}. {seeds}{refit} "
            f"{scale}"
        )

    def _describe_scores(self) -> str:
        summary, chosen = self.summary, self.chosen
        protocol = self.record.context.protocol
        validation = "cross-validation" if chosen.refit else "validation"
        opening = summary.test.opening if summary else 1
        look = "first opening" if opening == 1 else f"opening {opening}"
        rows = [f"| | {validation} | test, {look} |", "|---|---|---|"]
        zeroshot, ceiling = "zero-shot, measured alike", "best mask inside the prompt"
        if protocol.is_auto:
            zeroshot, ceiling = "untrained class prompts (zero-shot SAM2 knows no classes)", "every pixel named right"
        if summary is None:
            rows.append(f"| this model | {chosen.val_dice:.4f} | not scored |")
        else:
            rows += [
                f"| this model | {chosen.val_dice:.4f} | {summary.test.dice:.4f} |",
                f"| {zeroshot} | {summary.bar.dice:.4f} | {summary.test.zeroshot_dice:.4f} |",
                f"| {protocol.floor_words} (floor) | {summary.bar.floor:.4f} | |",
                f"| {ceiling} (ceiling) | {summary.bar.ceiling:.4f} | |",
            ]
        where = " (regions that the refit trained on)" if chosen.refit else ""
        stock = not (protocol.is_auto or self.unmergeable)
        check = "this file by stock `SAM2ImagePredictor`" if stock else "these files, read again"
        rows.append(f"| {check}{where} | {self.stock_dice:.4f} | |")
        verdict = (
            f"\n\nAgainst zero-shot on test: **{summary.test.verdict}**. Validation chose this model among "
            f"{sum(summary.trials.values())} trials, so its validation figure is optimistic."
            if summary
            else ""
        )
        return (
            "## Dice\n\n" + "\n".join(rows) + f"\n\nProtocol `{protocol.describe()}`.{verdict}\n\n"
            f"For orientation: the recorded bar is {RECORDED_BAR.overall_dice} (SAM2.1 Hiera-L, zero-shot, BCSS "
            f"test set, protocol `{RECORDED_BAR.protocol}`); it can be compared only with figures on those images."
        )

    def _describe_data(self) -> str:
        record = self.record
        counts = ", ".join(f"{len(names)} {part}" for part, names in record.split.items())
        versions = ", ".join(f"{name} {version}" for name, version in record.environment["packages"].items())
        return (
            f"## Data and origin\n\nData fingerprint `{record.data_fingerprint}`; regions: {counts}. "
            f"{record.split_description}\n\nSeed of the search {record.context.seed}, git commit "
            f"`{record.environment['git_commit']}`, {versions}."
        )

    def _describe_use(self) -> str:
        if self.unmergeable:
            return self._describe_loading()
        spec = MODELS[self.record.context.model]
        lines = ["from sam2.build_sam import build_sam2"]
        if spec.is_demo:
            lines += [
                "from hydra import initialize_config_dir",
                "from hydra.core.global_hydra import GlobalHydra",
                "",
                "GlobalHydra.instance().clear()  # nano's config lies beside this card, not inside sam2",
                'with initialize_config_dir("/absolute/path/of/this/folder", version_base="1.2"):',
                f'    model = build_sam2("{spec.config}", "sam2.pt", device="cpu")',
            ]
        else:
            lines.append(f'model = build_sam2("{spec.config}", "sam2.pt")')
        files = "`sam2.pt` holds the merged weights under stock keys; `adapter/` is the PEFT adapter alone."
        if not self.chosen.scale:
            files = "`sam2.pt` holds the zero-shot weights under stock keys; `adapter/`, if any, adds nothing."
        return (
            f"## Use\n\n{self._describe_class_prompts()}{files}\n\n"
            "```python\n" + "\n".join(lines) + "\n```"
        )

    def _describe_loading(self) -> str:
        """Returns why there is no checkpoint for stock SAM2, and how to load the folder."""
        context = self.record.context
        params, arguments = self.chosen.params, ['"/absolute/path/of/this/folder"']
        if context.checkpoint is not None:
            arguments.append(f'checkpoint="/absolute/path/of/{Path(context.checkpoint).name}"')
        encoder = params.get("fusion.encoder") if params.get("fusion.kind", "none") != "none" else None
        if encoder in context.pathology_weights:
            file = Path(context.pathology_weights[str(encoder)]).name
            arguments.append(f'pathology_weights={{"{encoder}": "/absolute/path/of/{file}"}}')
        prompts = " It names every pixel by itself, but `search.predict` does not take it." * context.protocol.is_auto
        return (
            f"## Use\n\nThere is no `sam2.pt`: {self.unmergeable} cannot be merged into SAM2's weights. This folder "
            "holds what was trained (`adapter/`) and how (`recipe.json`); this project puts it onto the weights that "
            "the search began with, which it does not hold:\n\n"
            "```python\nfrom trainables.export.unmerged import load_unmerged\n\n"
            f"model = load_unmerged({', '.join(arguments)})\n```\n\n"
            f"`SAM2ImagePredictor(model)` takes it like any SAM2 model.{prompts}"
        )

    def _describe_class_prompts(self) -> str:
        if not self.record.context.protocol.is_auto:
            return ""
        return (
            "This model needs no prompts: it names every pixel by a class or as background. The learned tokens that "
            "ask for the classes (SAM-Path, Zhang et al. 2023) lie in `class_prompts.safetensors`, in the order of "
            "`class_prompts.json`; `sam2.pt` cannot hold them, and stock SAM2 predictors cannot take them. Masks of "
            "new images:\n\n"
            "```sh\npython -m search.predict --model THIS_FOLDER IMAGE... --out masks/\n```\n\n"
        )

    def _describe_recipe(self) -> str:
        rows = [f"| `{name}` | {value} |" for name, value in self.chosen.params.items()]
        return "## Recipe\n\n| field | value |\n|---|---|\n" + "\n".join(rows)
