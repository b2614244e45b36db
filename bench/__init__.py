"""What is measured: one run, from its configuration to its rows."""

from results.interrupt import end_quietly_as_command

end_quietly_as_command()
