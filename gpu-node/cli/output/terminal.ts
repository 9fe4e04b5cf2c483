/** The surroundings of the command. They are passed in, so that tests can run it in their own process. */
export interface Terminal {
  env: Readonly<Record<string, string | undefined>>
  /** Folder that relative file names on the command line start from. */
  cwd: string
  /** The checkout, which contains `.copal` unless COPAL_HOME names another folder. */
  root: string
  stdin: AsyncIterable<Uint8Array>
  stdout: OutputStream
  stderr: OutputStream
  /** Asks the person at the terminal for a line; absent where there is none. */
  ask?: (question: string) => Promise<string>
  /** Aborted when the user presses Ctrl-C. */
  signal: AbortSignal
}

/** The part of `process.stdout` that the command uses. */
export interface OutputStream {
  write(text: string): unknown
  readonly isTTY?: boolean
  readonly columns?: number
  readonly rows?: number
}

/** Returns the width of text for people: that of the terminal, or 80 without one. */
export function lineWidth(stream: OutputStream): number {
  return stream.isTTY && stream.columns ? stream.columns : 80
}

/**
 * Returns the width of a table: that of the terminal, or unlimited into a file or pipe, so that each row is one line.
 */
export function tableWidth(stream: OutputStream): number {
  return stream.isTTY ? lineWidth(stream) : Number.POSITIVE_INFINITY
}
