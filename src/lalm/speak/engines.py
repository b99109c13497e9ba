"""Engines and their voices on this machine: what there is, and what a person has chosen of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType

from lalm import plugins
from lalm.data.sources import SPLITS
from lalm.errors import ConfigError, MissingExtraError, UserError, many, nearest

SHOWN = 40  # voices that are listed by name


def list_engines(language: str, engines: Sequence[str] = ()) -> str:
    """Every engine with its licence, languages and voices of a language, or what installs it: what `--list` prints."""
    parts = []
    for name in engines or plugins.names("synth"):
        module = plugins.load("synth", name)
        lines = [f"{name}: {plugins.summary('synth', name)}"]
        lines += [f"  licence    {licence_of(module)}"]
        try:
            languages = module.languages(module.Config())
            lines.append(f"  languages  {', '.join(languages)}")
            lines.append(f"  voices     {language}: {_some(plain_voices(module, language))}")
        except MissingExtraError as error:
            lines.append(f"  missing    {error}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def licence_of(module: ModuleType) -> str:
    """What an engine says of its voices' licence."""
    return str(getattr(module, "LICENCE", "not stated"))


def plain_voices(module: ModuleType, language: str) -> list[str]:
    """The voices of a language without mixtures of others (`a+b`), which no split could keep apart from what they mix."""
    known: list[str] = module.voices(language, module.Config())
    names = set(known)
    return [voice for voice in known if not _is_mixture(voice, names)]


def _is_mixture(voice: str, known: set[str]) -> bool:
    parts = voice.partition(":")[0].split("+")
    return len(parts) > 1 and all(part in known for part in parts)


def _some(voices: Sequence[str]) -> str:
    more = f" and {len(voices) - SHOWN} more" if len(voices) > SHOWN else ""
    return ", ".join(voices[:SHOWN]) + more if voices else "none"


def engines_asked_for(asked: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The names of `kokoro` and `pico@test`, and the split of those that speak for one only. Raises ConfigError for another."""
    names: list[str] = []
    only: dict[str, str] = {}
    for text in asked:
        name, at, split = text.partition("@")
        if at and split not in SPLITS:
            raise ConfigError(
                f"--engine {text}: '{split}' is no split.{nearest(split, SPLITS)} Allowed: {', '.join(SPLITS)}."
            )
        if name in names:
            raise ConfigError(f"--engine {text}: {name} was named before; an engine speaks for all splits, or for one.")
        names.append(name)
        only |= {name: split} if at else {}
    return tuple(names), only


def voices_asked_for(engines: Sequence[str], asked: Sequence[str]) -> dict[str, list[str]]:
    """`slt,rms` (of the only engine) and `flite=slt,rms` as voices by engine. Raises ConfigError for what is neither."""
    result: dict[str, list[str]] = {}
    for text in asked:
        engine, equals, names = text.rpartition("=")
        if not equals:
            if len(engines) != 1:
                raise ConfigError(f"--voices {text}: with several engines write whose they are: --voices ENGINE={text}")
            engine = engines[0]
        if engine not in engines:
            raise ConfigError(f"--voices {text}: '{engine}' is no engine of this command.{nearest(engine, engines)}")
        wanted = [name.strip() for name in names.split(",") if name.strip()]
        if not wanted:
            raise ConfigError(f"--voices {text}: names no voice.")
        result[engine] = [*result.get(engine, []), *wanted]
    return result


def voices_by_language(
    engines: Sequence[str], asked: Mapping[str, Sequence[str]], languages: Sequence[str]
) -> dict[str, dict[str, list[str]]]:
    """Language -> engine -> its voices: those asked for, or all plain ones.

    Raises MissingExtraError for an engine that is not installed, ConfigError for unknown engines and voices, UserError for a
    language that no engine speaks and for an engine that speaks none of the languages.
    """
    if not engines:
        there = ", ".join(plugins.names("synth"))
        raise ConfigError(
            f"Name at least one engine with --engine: {there}. `lalm data synth --list` says which are here."
        )
    modules = {name: plugins.load("synth", name) for name in dict.fromkeys(engines)}
    spoken = {name: module.languages(module.Config()) for name, module in modules.items()}
    result: dict[str, dict[str, list[str]]] = {language: {} for language in languages}
    for name, module in modules.items():
        known = {language: module.voices(language, module.Config()) for language in languages}
        everywhere = [voice for voices in known.values() for voice in voices]
        unknown = [voice for voice in asked.get(name, ()) if voice not in everywhere]
        if unknown and everywhere:
            raise ConfigError(f"--voices: {name} has no voice '{unknown[0]}'.{nearest(unknown[0], everywhere)}")
        for language in languages:
            wanted = asked.get(name) or plain_voices(module, language)
            voices = list(dict.fromkeys(voice for voice in wanted if voice in known[language]))
            if voices:
                result[language][name] = voices
        if not any(name in by_engine for by_engine in result.values()):
            wrong = ", ".join(f"'{language}'" for language in languages)
            raise UserError(f"The engine {name} does not speak {wrong}, but: {', '.join(spoken[name])}.")
    mute = [language for language, by_engine in result.items() if not by_engine]
    if mute:
        raise UserError(
            f"No engine of this command speaks {', '.join(mute)} (of {many(len(languages), 'language')}). Add one with --engine."
        )
    return result
