"""The life of a real virtual machine, told through boto3 and ssh: `mallee demo --hypervisor libvirt`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, Final

from mallee.cli.client import Cloud
from mallee.cli.lab import until
from mallee.cli.lab.laboratory import Laboratory
from mallee.cli.story import Story, Tell
from mallee.kernel.clock import Clock
from mallee.kernel.errors import Fault, Kind

_BOOT: Final = 180.0  # seconds; under software emulation and on a busy machine
_TALK_PATIENCE: Final = 60.0
_TALK: Final = "while :; do echo on; usleep 50000; done"
_USER_DATA: Final = "#!/bin/sh\necho user data has run on $(hostname)\n"


class RealStory(Story):
    """The story with two real guests; somebody is logged in to one of them while it moves.

    Args:
        lab: where.
        clock, tell, watch: as for any story.
        key: a file that takes the private key.
    """

    def __init__(
        self, lab: Laboratory, clock: Clock, tell: Tell, watch: Callable[[str], dict[str, Any]], key: Path
    ) -> None:
        super().__init__(Cloud(lab.access), clock, tell, watch)
        self._lab = lab
        self._key = key

    def run(self) -> None:
        """From the key pair to the end of the guests.

        Raises:
            Fault: when the cloud does not do what it should.
            TimeoutError: a guest does not boot.
        """
        with self._login_key() as name, self._guests(name) as ids:
            going, staying = ids
            self._wait("instance_running", ids)
            with self._step("boot", "it has its address and has run its user data"):
                until(
                    lambda: all("user data has run" in self._said(each) for each in ids),
                    "the guests' user data",
                    _BOOT,
                )
            self._console(going)
            with self._talking(going, staying) as talk:
                self._migrate(going)
                talk.hears()
            self._tell(
                f"      the ssh session lives; the longest it heard nothing was {talk.longest * 1000:.0f} ms"
            )

    @contextmanager
    def _login_key(self) -> Iterator[str]:
        name = "mallee-demo"
        with self._step("create-key-pair", name):
            made = self._ec2.create_key_pair(KeyName=name, KeyType="ed25519")
        self._key.touch(mode=0o600)
        self._key.write_text(made["KeyMaterial"])
        yield name

    @contextmanager
    def _guests(self, key: str) -> Iterator[list[str]]:
        image = self._ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        with self._step("run-instances", f"2 x t3.nano of {image}: pending"):
            made = self._ec2.run_instances(
                ImageId=image,
                InstanceType="t3.nano",
                MinCount=2,
                MaxCount=2,
                KeyName=key,
                UserData=_USER_DATA,
            )["Instances"]
        with self._ended_with_the_story([each["InstanceId"] for each in made]) as ids:
            yield ids

    def _said(self, instance: str) -> str:
        return str(self._ec2.get_console_output(InstanceId=instance).get("Output", ""))

    @contextmanager
    def _talking(self, going: str, staying: str) -> Iterator[Talk]:
        """Through the guest that stays: its connection to the other is one of their own network."""
        address = {each["InstanceId"]: each["PrivateIpAddress"] for each in self._describe([going, staying])}
        host = self._lab.host_of(self._ec2, staying)
        with self._step("ssh", f"into {address[going]} by way of {address[staying]}, and stay"):
            words = self._lab.login(host, self._key, (address[staying], address[going]), _TALK)
            child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own words
            talk = Talk(child, self._clock)
            talk.hears()
        try:
            yield talk
        finally:
            child.kill()
            child.wait()


class Talk:
    """Somebody who is logged in and hears the guest twenty times a second.

    Attributes:
        longest: seconds between two words of the guest, at most.
    """

    def __init__(self, child: subprocess.Popen[str], clock: Clock) -> None:
        self._child = child
        self._clock = clock
        self._heard = 0
        self.longest = 0.0
        self._listening = Thread(target=self._listen, daemon=True)
        self._listening.start()

    def hears(self) -> None:
        """Wait for the guest's next word.

        Raises:
            Fault: UNAVAILABLE `no-login`, the session has ended.
            TimeoutError: it says nothing.
        """
        before = self._heard
        until(
            lambda: self._heard > before or self._child.poll() is not None,
            "a word of the guest",
            _TALK_PATIENCE,
        )
        if self._heard == before:
            raise Fault(Kind.UNAVAILABLE, "The ssh session into the guest has ended.", code="no-login")

    def _listen(self) -> None:
        assert self._child.stdout is not None
        last = None
        for _ in self._child.stdout:
            now = self._clock.monotonic()
            if last is not None:
                self.longest = max(self.longest, now - last)
            last = now
            self._heard += 1
