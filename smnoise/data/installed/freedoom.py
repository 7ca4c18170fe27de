# SPDX-License-Identifier: Apache-2.0
"""Ego-motion in Freedoom: which way does the player move? Clips made by the game engine inside the package vizdoom.

    smnoise data ego-motion --out data/ego-motion

A clip begins with the player at rest somewhere in a map, and one key is held: forward, backward, left, right (steps
aside), or a turn to the left or right. Its 8 pictures are 2 tics (1/35 s) apart. Monsters, the weapon and all that
is written on the screen are left out. Steps that something blocks are dropped, so a clip moves as its label says, and
every map has as many clips of each action. The pictures are rendered at 200 x 150 pixels, and each pixel of the clip
is the mean of four.

Three sets are written, as small lossless videos SET/ACTION/MAP-NNN.mkv:

* train: 30 maps of Freedoom, phase 2;
* test: 12 maps of phase 1, none of which is in train. This asks for motion;
* places: the maps of train again, on other walks. With the lists appearance-train.txt (of train) and
  appearance-test.txt (of places), whose labels are the numbers of the maps, it asks for appearance, which motion does
  not tell: the opposite probe.

The engine draws nothing at random but from the seed, so the same clips come out in every run. It is the software of
ViZDoom (MIT, with parts of ZDoom under licences of their own); the maps and pictures are Freedoom's (BSD). Nothing of
either is part of smnoise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from ...files import write_text
from ..draws import choose
from ..video.lossless import write_lossless

PACKAGE = "vizdoom==1.3.2"
ACTIONS = ("forward", "backward", "left", "right", "turn-left", "turn-right")
FRAMES, TICS = 8, 2
REST = 0.05  # speed in map units a tic
LEAST_STEP = 45.0  # map units of 14 tics; 55 to 60 where nothing is in the way
MOST_DRIFT = 1.0  # map units that a player who turns may be moved by, as by a lift
WALKS, TRIES = 40, 400  # walks that a map is given up after, and places of a walk
LEGS = 2

WAY, LENGTH, ANGLE = 4, 8, 12  # slots of a place's choices; a leg takes the next one of its own


class Set(NamedTuple):
    """Clips of one set: which maps, how many clips of each action in each, and the seed of the walks."""

    name: str
    maps: tuple[str, ...]
    per_action: int
    seed: int


PHASE_2 = tuple(f"MAP{number:02}" for number in range(1, 31))
PHASE_1 = tuple(f"E{episode}M{number}" for episode in (1, 2, 3) for number in (1, 2, 3, 4))
SETS = (Set("train", PHASE_2, 40, 0), Set("test", PHASE_1, 25, 1), Set("places", PHASE_2, 6, 2))


def clips_of(chosen: Set) -> int:
    """How many clips a set has."""
    return len(chosen.maps) * chosen.per_action * len(ACTIONS)


def engine() -> ModuleType:
    """The module vizdoom. Raises DataError where it is not installed."""
    try:
        import vizdoom
    except ImportError as error:
        raise DataError(f"ego-motion needs the game engine ({error}): pip install {PACKAGE}") from None
    return vizdoom


class Player:
    """A player alone in a map.

    Args:
        name: of the map, such as MAP07 of phase 2 or E1M3 of phase 1.
        seed: of the engine and of all walks.
    """

    def __init__(self, name: str, seed: int):
        vizdoom = engine()
        button, variable = vizdoom.Button, vizdoom.GameVariable
        game = vizdoom.DoomGame()
        self._folder = TemporaryDirectory()  # the engine writes a file of settings
        game.set_doom_config_path(str(Path(self._folder.name) / "vizdoom.ini"))
        phase = "freedoom2.wad" if name.startswith("MAP") else "freedoom1.wad"
        game.set_doom_game_path(str(Path(vizdoom.scenarios_path).parent / phase))
        game.set_doom_map(name)
        game.set_seed(seed)
        game.set_mode(vizdoom.Mode.PLAYER)
        game.set_screen_resolution(vizdoom.ScreenResolution.RES_200X150)
        game.set_screen_format(vizdoom.ScreenFormat.RGB24)
        for shown in ("hud", "weapon", "crosshair", "messages", "decals", "particles", "effects_sprites"):
            getattr(game, f"set_render_{shown}")(False)
        game.set_window_visible(False)
        game.set_sound_enabled(False)
        game.set_available_buttons(
            [button.MOVE_FORWARD, button.MOVE_BACKWARD, button.MOVE_LEFT, button.MOVE_RIGHT, button.TURN_LEFT,
             button.TURN_RIGHT, button.USE, button.TURN_LEFT_RIGHT_DELTA]
        )  # fmt: skip
        game.set_available_game_variables(
            [variable.POSITION_X, variable.POSITION_Y, variable.VELOCITY_X, variable.VELOCITY_Y]
        )
        game.set_episode_timeout(0)
        game.add_game_args("-nomonsters +sv_cheats 1")
        game.init()
        self.game, self.name, self.seed = game, name, seed

    def close(self) -> None:
        """Stop the engine."""
        self.game.close()
        self._folder.cleanup()
        with suppress(OSError):  # the engine makes it where the program was started, and leaves it there
            Path("_vizdoom").rmdir()

    def clips(self, per_action: int) -> Iterator[tuple[int, Tensor]]:
        """The number of an action and its clip, uint8 [3, 8, 75, 100], action by action in turn.

        Raises DataError where the map does not let the player move that often.
        """
        wanted = iter([action for _ in range(per_action) for action in range(len(ACTIONS))])
        action = next(wanted, None)
        for walk in range(WALKS):
            self._begin(walk)
            for place in range(TRIES):
                if action is None:
                    return
                if not self._walk(walk * TRIES + place):
                    break
                if (clip := self._hold(action)) is not None:
                    yield action, clip
                    action = next(wanted, None)
                if self.game.is_episode_finished():  # the exit of the map
                    break
        raise DataError(
            f"in {self.name} the player could not move as often as {per_action} clips an action need"
        )

    def _begin(self, walk: int) -> None:
        if walk:
            self.game.set_seed(self.seed + walk)
            self.game.new_episode()
        self.game.send_game_command("god")

    def _press(self, button: int | None, tics: int, turn: float = 0.0) -> None:
        pressed = [0.0] * 8
        if button is not None:
            pressed[button] = 1.0
        pressed[7] = turn
        if not self.game.is_episode_finished():
            self.game.make_action(pressed, tics)

    def _walk(self, place: int) -> bool:
        """Go somewhere else, open what is there, look around and come to rest; whether the player did."""
        for leg in range(LEGS):
            self._press(None, 1, turn=choose(self.seed, place, WAY + leg, 241) - 120.0)
            self._press(0, 4 + choose(self.seed, place, LENGTH + leg, 26))
            self._press(6, 1)
        self._press(None, 1, turn=choose(self.seed, place, ANGLE, 360) - 180.0)
        for _ in range(20):
            self._press(None, 6)
            if self.game.is_episode_finished():
                return False
            if np.abs(self._variables()[2:]).max() < REST:
                return True
        return True  # on a belt or a lift: `_hold` finds out whether that moves the player

    def _variables(self) -> np.ndarray:
        return np.asarray(self.game.get_state().game_variables, dtype=np.float64)

    def _hold(self, action: int) -> Tensor | None:
        """The clip of a key that is held; None where something was in the way."""
        before, pictures = self._variables(), []
        for frame in range(FRAMES):
            if self.game.is_episode_finished():
                return None
            pictures.append(self.game.get_state().screen_buffer)
            if frame < FRAMES - 1:
                self._press(action, TICS)
        moved = float(np.hypot(*(self._variables()[:2] - before[:2])))
        if moved < LEAST_STEP if action < 4 else moved > MOST_DRIFT:
            return None
        wide = np.stack(pictures).astype(np.uint16)
        rows = wide[:, ::2] + wide[:, 1::2]
        small = (rows[:, :, ::2] + rows[:, :, 1::2] + 2 >> 2).astype(np.uint8)
        return torch.from_numpy(small).permute(3, 0, 1, 2).contiguous()


def write(
    out: Path, sets: tuple[Set, ...] = SETS, step: Callable[[int], object] = lambda clips: None
) -> None:
    """Write the sets to folders of their names below `out`, and the lists of appearance.

    A map that is there, whole, is not made again, so a command that was stopped goes on. step: called with the number
    of clips that have been made since the last call.

    Raises DataError where vizdoom is missing, or `out` holds clips of other settings.
    """
    version = engine().__version__
    for chosen in sets:
        for name in chosen.maps:
            _write_map(Path(out), chosen, name, version)
            step(clips_of(chosen) // len(chosen.maps))
    by_name = {chosen.name: chosen for chosen in sets}
    if {"train", "places"} <= set(by_name):
        for side, chosen in (("train", by_name["train"]), ("test", by_name["places"])):
            write_text(Path(out) / f"appearance-{side}.txt", "".join(_appearance(chosen)))


def _write_map(out: Path, chosen: Set, name: str, version: str) -> None:
    done = out / chosen.name / f"{name}.json"
    settings = {"vizdoom": version, "map": name, "clips of an action": chosen.per_action, "seed": chosen.seed}
    if done.exists():
        if json.loads(done.read_text()) != settings:
            raise DataError(f"{done} says that these clips are of other settings; choose an empty folder")
        return
    player = Player(name, chosen.seed)
    try:
        for number, (action, clip) in enumerate(player.clips(chosen.per_action)):
            write_lossless(out / path_of(chosen.name, action, name, number // len(ACTIONS)), clip)
    finally:
        player.close()
    write_text(done, json.dumps(settings) + "\n")


def path_of(name: str, action: int, level: str, number: int) -> Path:
    """Return the path of a clip below the folder of all sets."""
    return Path(name) / ACTIONS[action] / f"{level}-{number:03}.mkv"


def _appearance(chosen: Set) -> Iterator[str]:
    """Lines `path label` of a set, with the number of the map as label."""
    for label, level in enumerate(chosen.maps):
        for number in range(chosen.per_action):
            for action in range(len(ACTIONS)):
                yield f"{path_of(chosen.name, action, level, number)} {label}\n"
