import { formatDuration } from '@copal/gpu-node/platform/quantities.ts'
import { cut, printable, printableLines } from './table.ts'
import { lineWidth, type OutputStream } from './terminal.ts'

/** A progress bar. On a terminal it rewrites its line; into a file or pipe it prints a line every 10 %. */
export interface ProgressBar {
  /**
   * Shows progress.
   *
   * @param fraction 0 to 1, or null while the total is unknown
   * @param detail shown last, and cut where the line ends
   */
  update(label: string, fraction: number | null, detail?: string): void
  /** Ends the line, or replaces it by `lastLine`. */
  end(lastLine?: string): void
}

const BAR_CELLS = 20
/** On a line of fewer columns than this the bar has half as many cells, so that the detail has room. */
const WIDE_LINE = 100
/** The time left is shown only after this much was measured. */
const MIN_MEASURED = { ms: 1000, fraction: 0.1 }

/**
 * Creates a progress bar.
 *
 * @param nowMs clock for the time left; replaced in tests
 */
export function createProgressBar(stream: OutputStream, nowMs: () => number = Date.now): ProgressBar {
  let label: string | undefined
  let started = { atMs: 0, fraction: 0 }
  let tenth = -1
  let drawn = false

  return {
    update(nextLabel, fraction, detail = '') {
      const reached = Math.min(1, Math.max(0, fraction ?? 0))
      if (nextLabel !== label || reached < started.fraction) {
        if (drawn && stream.isTTY && nextLabel !== label) stream.write('\n')
        label = nextLabel
        started = { atMs: nowMs(), fraction: reached }
        tenth = -1
      }
      const percent = fraction === null ? '' : `${String(Math.floor(reached * 100)).padStart(3)} %`
      const facts = [percent, timeLeft(reached, started, nowMs()), detail].filter(Boolean).join('  ')
      if (stream.isTTY) {
        const line =
          fraction === null ? `${label}  ${facts}` : `${label}  ${bar(reached, lineWidth(stream))} ${facts}`
        stream.write(`\r\x1b[K${cut(printable(line), lineWidth(stream) - 1)}`)
        drawn = true
      } else if (Math.floor(reached * 10) !== tenth) {
        tenth = Math.floor(reached * 10)
        stream.write(`${printable(`${label}  ${facts}`)}\n`)
      }
    },
    end(lastLine) {
      if (stream.isTTY && drawn) stream.write(lastLine === undefined ? '\n' : '\r\x1b[K')
      if (lastLine !== undefined) stream.write(`${printableLines(lastLine)}\n`)
      label = undefined
      drawn = false
    },
  }
}

function bar(fraction: number, columns: number): string {
  const cells = columns < WIDE_LINE ? BAR_CELLS / 2 : BAR_CELLS
  const full = Math.round(fraction * cells)
  return `${'█'.repeat(full)}${'░'.repeat(cells - full)}`
}

function timeLeft(fraction: number, started: { atMs: number; fraction: number }, nowMs: number): string {
  const elapsedMs = nowMs - started.atMs
  const done = fraction - started.fraction
  if (elapsedMs < MIN_MEASURED.ms || done < MIN_MEASURED.fraction || fraction >= 1) return ''
  return `${formatDuration((elapsedMs / done) * (1 - fraction))} left`
}
