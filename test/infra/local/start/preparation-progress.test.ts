import { expect, test } from 'vitest'
import { createProgressBar } from '../../../../gpu-node/cli/output/progress-bar.ts'
import { createPreparationProgress } from '../../../../infra/local/start/preparation-progress.ts'

const DOWNLOAD = { stage: 'download', what: 'model', totalBytes: 2_000_000, secondsLeft: null } as const

/** A terminal, and what stands on its lines in the end. */
function screen() {
  let text = ''
  const lines = () => text.split('\n').map((line) => line.split('\r\x1b[K').at(-1))
  return { isTTY: true, columns: 100, write: (more: string) => (text += more), lines }
}

test('a build and the model share one line, and what has ended stays above it', () => {
  const terminal = screen()
  const progress = createPreparationProgress(createProgressBar(terminal))
  progress.onBuild(3, 200)
  progress.onModel({ ...DOWNLOAD, doneBytes: 1_000_000 })
  progress.onBuild(4, 200)
  expect(terminal.lines().at(-1)).toMatch(
    /^Downloading model {2}█+░+ {2}50 % {2}1\.0 MB of 2\.0 MB; compiling 4 of 200 crates, 0 s$/,
  )
  progress.onModel({ ...DOWNLOAD, doneBytes: 2_000_000 })
  progress.endModel()
  progress.onBuild(200, 200)
  progress.endBuild('The addon was built.')
  progress.end()
  expect(terminal.lines()).toEqual([
    'Compiling  3 of 200 crates, 0 s',
    expect.stringMatching(/^Downloading model {2}█+ 100 % /),
    'The addon was built.',
    '',
  ])
})

test('a line that is printed meanwhile stands above the progress', () => {
  const terminal = screen()
  const progress = createPreparationProgress(createProgressBar(terminal))
  progress.onModel({ ...DOWNLOAD, doneBytes: 1_000_000 })
  progress.print('The addon cannot be built.')
  expect(terminal.lines()).toEqual([
    'The addon cannot be built.',
    expect.stringMatching(/^Downloading model .* 50 % /),
  ])
  progress.end()
})

test('a build that begins with the download leaves no line of its own', () => {
  const terminal = screen()
  const progress = createPreparationProgress(createProgressBar(terminal))
  progress.onBuild(0, 200)
  progress.onModel({ ...DOWNLOAD, doneBytes: 0 })
  progress.end()
  expect(terminal.lines()).toEqual([expect.stringMatching(/^Downloading model .*; compiling 0 of 200/), ''])
})
