import { createInterface } from 'node:readline'
import type { OutputStream } from '../output/terminal.ts'

/**
 * Asks a person at a terminal for a line.
 *
 * @returns what was typed; empty where the input ends or the person presses Ctrl-C
 */
export async function askLine(
  question: string,
  { input, output, signal }: { input: NodeJS.ReadableStream; output: OutputStream; signal: AbortSignal },
): Promise<string> {
  output.write(question)
  // Leaving the loop pauses the input, so that it does not keep the process running.
  for await (const line of createInterface({ input, signal })) return line
  return ''
}
