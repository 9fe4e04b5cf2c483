/** Options of Node for a process that serves tokens. */
export const SERVING_OPTIONS: readonly string[]
/** Parses the command line of a task: the file to run, or the help that the user asked for. */
export function readTask(
  commandLine: readonly string[],
):
  | { name: string; file: string; args: string[]; options: readonly string[]; help?: undefined }
  | { help: string }
