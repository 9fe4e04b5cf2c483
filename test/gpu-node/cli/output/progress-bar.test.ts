import { describe, expect, test } from 'vitest'
import { createProgressBar } from '../../../../gpu-node/cli/output/progress-bar.ts'

function recorder(isTTY: boolean) {
  const writes: string[] = []
  return { writes, isTTY, columns: 80, write: (text: string) => writes.push(text) }
}

describe('createProgressBar', () => {
  test('prints a line every 10 % into a pipe', () => {
    const stream = recorder(false)
    const bar = createProgressBar(stream, () => 0)
    for (let done = 0; done <= 1000; done += 1) bar.update('Loading', done / 1000, `${done} of 1000`)
    bar.end('Loaded.')
    expect(stream.writes).toHaveLength(12)
    expect(stream.writes[0]).toBe('Loading    0 %  0 of 1000\n')
    expect(stream.writes[10]).toBe('Loading  100 %  1000 of 1000\n')
    expect(stream.writes[11]).toBe('Loaded.\n')
  })

  test('estimates the time left from the rate since the label began', () => {
    const stream = recorder(false)
    let nowMs = 0
    const bar = createProgressBar(stream, () => nowMs)
    bar.update('Loading', 0.05)
    nowMs = 10_000
    bar.update('Loading', 0.14)
    nowMs = 30_000
    bar.update('Loading', 0.2)
    // From less than a tenth of the way nothing is guessed.
    expect(stream.writes[1]).toBe('Loading   14 %\n')
    expect(stream.writes[2]).toBe('Loading   20 %  2 min 40 s left\n')
  })

  test('rewrites one line on a terminal, which never wraps', () => {
    const stream = recorder(true)
    const bar = createProgressBar(stream, () => 0)
    bar.update(
      'A label that is long enough to need cutting',
      0.5,
      'and a detail that is far too long for the rest of the line',
    )
    expect(stream.writes[0]).toMatch(/…$/)
    bar.update('A label that is long enough to need cutting', 0.6)
    bar.end()
    for (const text of stream.writes.slice(0, 2)) {
      expect(text.startsWith('\r\x1b[K')).toBe(true)
      expect(text.length - '\r\x1b[K'.length).toBeLessThan(80)
    }
    expect(stream.writes.at(-1)).toBe('\n')
  })

  test('leaves room for the detail on a terminal of 80 columns', () => {
    const stream = recorder(true)
    let nowMs = 0
    const bar = createProgressBar(stream, () => nowMs)
    bar.update('Update of general', 0)
    nowMs = 30_000
    bar.update('Update of general', 0.5, 'evaluating, window 12 of 24')
    expect(stream.writes.at(-1)).toMatch(/█{5}░{5}  50 %  30 s left  evaluating, window 12 of 24$/)
  })

  test('shows only the detail when the total is unknown', () => {
    const stream = recorder(true)
    const bar = createProgressBar(stream, () => 0)
    bar.update('Verifying', null, '14 MB')
    expect(stream.writes).toEqual(['\r\x1b[KVerifying  14 MB'])
  })
})
