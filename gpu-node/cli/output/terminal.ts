/** Where the command writes, and what it may ask of its surroundings: given once, so that tests run it in process. */
export interface Terminal {
  env: Readonly<Record<string, string | undefined>>
  /** Relative file names on the command line start here. */
  cwd: string
  /** The checkout, where `.copal` lies unless COPAL_HOME says otherwise. */
  root: string
  stdin: AsyncIterable<Uint8Array>
  stdout: OutputStream
  stderr: OutputStream
  /** Aborted when the user presses Ctrl-C. */
  signal: AbortSignal
}

/** The part of `process.stdout` that is used. */
export interface OutputStream {
  write(text: string): unknown
  readonly isTTY?: boolean
  readonly columns?: number
}

/** Columns that text for people may fill: the terminal's, or 80 where there is none. */
export function lineWidth(stream: OutputStream): number {
  return stream.isTTY && stream.columns ? stream.columns : 80
}

/** Columns of a table: the terminal's; into a file or pipe it goes whole, one line a row, for programs that search it. */
export function tableWidth(stream: OutputStream): number {
  return stream.isTTY ? lineWidth(stream) : Number.POSITIVE_INFINITY
}
