"""Test points in TAP, for the tests written in Python."""


class Tap:
    """Prints a point as soon as it is known, and the plan at the end."""

    def __init__(self):
        self.points = 0
        self.failures = 0

    def check(self, name, good, *details):
        """One point; DETAILS are shown when it fails."""
        self.points += 1
        self.failures += not good
        print(f'{"ok" if good else "not ok"} {self.points} - {name}')
        if not good:
            for detail in details:
                for line in str(detail).splitlines():
                    print(f'# {line}')
        return good

    def skip(self, name, why):
        self.points += 1
        print(f'ok {self.points} - {name} # SKIP {why}')

    def end(self):
        """Returns the status for sys.exit()."""
        print(f'1..{self.points}')
        return 1 if self.failures else 0
