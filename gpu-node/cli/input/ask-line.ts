import { createInterface } from 'node:readline'
import type { OutputStream } from '../output/terminal.ts'

/**
 * Asks a person at a terminal for a line.
 *
 * @returns what was typed; empty where the input ends or the person presses Ctrl-C
 */
export function askLine(
  question: string,
  { input, output, signal }: { input: NodeJS.ReadableStream; output: OutputStream; signal: AbortSignal },
): Promise<string> {
  output.write(question)
  return new Promise((resolve) => {
    const lines = createInterface({ input, signal })
    lines.once('line', (line) => {
      resolve(line)
      // Otherwise the terminal keeps the process running. Ending a loop over the lines does not pause it.
      lines.close()
    })
    lines.once('close', () => resolve(''))
  })
}
