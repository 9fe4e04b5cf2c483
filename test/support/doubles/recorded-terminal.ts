import { join } from 'node:path'
import type { Terminal } from '../../../gpu-node/cli/output/terminal.ts'

/** A terminal of 80 columns and no known height, or a pipe, that records its output. */
export interface RecordedTerminal extends Terminal {
  output(): string
  errors(): string
}

/** Creates a terminal that hides the machine's own environment and home from the command. */
export function recordedTerminal(
  options: {
    env?: Record<string, string>
    cwd?: string
    stdin?: string
    piped?: boolean
    /** The answer of the person at the terminal; left out where there is no terminal to ask at. */
    answer?: string
    columns?: number
    rows?: number
  } = {},
): RecordedTerminal {
  const { columns = 80, rows, answer } = options
  let output = ''
  let errors = ''
  return {
    env: options.env ?? {},
    cwd: options.cwd ?? '/',
    root: join('/', 'nowhere'),
    stdin: (async function* () {
      yield Buffer.from(options.stdin ?? '')
    })(),
    stdout: {
      isTTY: options.piped !== true,
      columns,
      ...(rows === undefined ? {} : { rows }),
      write: (text) => (output += text),
    },
    stderr: { write: (text) => (errors += text) },
    ...(answer === undefined
      ? {}
      : {
          ask: (question: string) => {
            errors += question
            return Promise.resolve(answer)
          },
        }),
    signal: new AbortController().signal,
    output: () => output,
    errors: () => errors,
  }
}
