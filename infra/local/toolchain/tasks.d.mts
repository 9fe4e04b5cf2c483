/** Reads the command line of a task: what is to run, or the help that was asked for. */
export function readTask(
  commandLine: readonly string[],
): { name: string; file: string; args: string[]; help?: undefined } | { help: string }
