import { setTimeout as sleep } from 'node:timers/promises'
import { fitScreen } from './fit-screen.ts'
import { printableLines } from './table.ts'
import type { Terminal } from './terminal.ts'

/** Moves to the upper left corner and clears the screen. */
const CLEAR = '\x1b[H\x1b[J'

/**
 * Draws a view again and again until the user presses Ctrl-C. On a terminal each drawing replaces the one before, and shows what fits
 * the window, because a longer one would scroll its beginning away; into a file or pipe they follow each other, with an empty line
 * between.
 *
 * @param draw fetches and renders; what it throws ends the view
 */
export async function liveView(
  { stdout, signal }: Pick<Terminal, 'stdout' | 'signal'>,
  intervalMs: number,
  draw: () => Promise<string>,
): Promise<void> {
  while (!signal.aborted) {
    try {
      const text = printableLines(await draw())
      stdout.write(stdout.isTTY ? `${CLEAR}${fitScreen(text, stdout)}\n` : `${text}\n\n`)
      await sleep(intervalMs, undefined, { signal })
    } catch (error) {
      if (!signal.aborted) throw error
    }
  }
}
