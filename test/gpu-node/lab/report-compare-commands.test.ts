import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { runCommand } from '../../../gpu-node/cli/program.ts'
import { writeResults } from '../../../gpu-node/lab/results/results-file.ts'
import type { LabResults } from '../../../gpu-node/lab/results/lab-results.ts'
import { generatedResults } from '../../support/pruning/lab-results.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'
import { recordedTerminal } from '../../support/doubles/recorded-terminal.ts'

/** Fewer methods where the test is not about what is printed of them. */
const TWO_METHODS = { methods: ['wanda', 'copal'] }

describe('copal lab report', () => {
  test('writes Markdown, HTML and plots beside the result, and lists them', async () => {
    const cwd = temporaryDir()
    mkdirSync(join(cwd, 'lab'))
    await writeResults(join(cwd, 'lab'), generatedResults())
    const terminal = recordedTerminal({ cwd })
    expect(await runCommand(['lab', 'report', 'lab', '--json'], terminal)).toBe(0)
    const { dir, files } = JSON.parse(terminal.output()) as { dir: string; files: string[] }
    expect(dir).toBe(join(cwd, 'lab'))
    expect(files.slice(0, 2)).toEqual(['report.md', 'report.html'])
    for (const file of files) expect(readFileSync(join(dir, file), 'utf8').length).toBeGreaterThan(1000)
    expect(readdirSync(join(dir, 'plots')).toSorted()).toEqual(
      files
        .filter((file) => file.startsWith('plots'))
        .map((file) => file.slice(6))
        .toSorted(),
    )
  })

  test('rendering again gives the same bytes', async () => {
    const dir = temporaryDir()
    await writeResults(dir, generatedResults(TWO_METHODS))
    const render = async (): Promise<string[]> => {
      expect(await runCommand(['lab', 'report', dir], recordedTerminal())).toBe(0)
      return ['report.md', 'report.html', 'plots/churn-0-5.svg'].map((file) =>
        readFileSync(join(dir, file), 'utf8'),
      )
    }
    expect(await render()).toEqual(await render())
  })

  test('with --png every plot is also a PNG; without fonts nothing is written', async () => {
    const dir = temporaryDir()
    await writeResults(dir, generatedResults(TWO_METHODS))
    const terminal = recordedTerminal()
    const code = await runCommand(['lab', 'report', dir, '--png'], terminal)
    const files = readdirSync(dir, { recursive: true }).map(String)
    const plots = files.filter((file) => file.endsWith('.svg')).map((file) => file.replace(/svg$/, 'png'))
    const isPicture = (file: string): boolean =>
      files.includes(file) && readFileSync(join(dir, file)).subarray(0, 4).toString('latin1') === '\x89PNG'
    const asPromised =
      code === 0
        ? plots.length > 10 && plots.every(isPicture)
        : terminal.errors().includes('This machine has no font') && files.join() === 'results.json'
    expect(asPromised).toBe(true)
  })

  test('an interrupted run without methods renders and says that it is incomplete', async () => {
    const dir = temporaryDir()
    await writeResults(dir, { ...generatedResults(), runs: [], incomplete: ['dense'] })
    expect(await runCommand(['lab', 'report', dir], recordedTerminal())).toBe(0)
    expect(readFileSync(join(dir, 'report.md'), 'utf8')).toContain(
      '> **Incomplete: this has not been run yet.**\n>\n> - no method has been run\n> - dense',
    )
  })

  test('a folder without a result exits with 1 and a one-line message', async () => {
    const terminal = recordedTerminal({ cwd: temporaryDir() })
    expect(await runCommand(['lab', 'report', '.'], terminal)).toBe(1)
    expect(terminal.errors()).toMatch(/^copal: .*results\.json does not exist: [^\n]+\n$/)
  })
})

/** Results cut to the first windows. */
function withWindows(results: LabResults, windows: number): LabResults {
  for (const { evaluation } of results.domains) evaluation.windows = windows
  const evaluated = [
    results.dense,
    ...results.runs.flatMap(({ stages }) => stages.map((one) => one.evaluations)),
  ]
  for (const evaluation of evaluated.flatMap((one) => Object.values(one)))
    evaluation.windowNll = evaluation.windowNll.slice(0, windows)
  return results
}

describe('copal lab compare', () => {
  test('prints the differences and every comparison within 80 columns', async () => {
    const [a, b] = [temporaryDir(), temporaryDir()]
    await writeResults(a, generatedResults())
    const changed = generatedResults({ shift: 0.02 })
    changed.settings.seed = 1
    changed.runs.shift()
    await writeResults(b, changed)
    const terminal = recordedTerminal()
    expect(await runCommand(['lab', 'compare', a, b], terminal)).toBe(0)
    const lines = terminal.output().split('\n')
    expect(lines.slice(0, 2)).toEqual(['DIFFERS  A  B', 'seed     0  1'])
    const title = lines.indexOf('continual-wanda, 2:4, 16 samples')
    expect(lines[title + 5]).toMatch(
      /^speeches {6}\d+\.\d+ +\d+\.\d+ {2}\+0\.020 {2}\+0\.020 to \+0\.020 {2}1\.020 {2}1\.020 to 1\.020 {2}\*$/,
    )
    expect(lines).toContain('Only in A: magnitude per matrix, 0.5.')
    expect(lines.filter((line) => line.length > 80)).toEqual([])
  })

  test('with one or five windows there is no interval and no star', async () => {
    const dir = temporaryDir()
    for (const windows of [1, 5]) {
      await writeResults(dir, withWindows(generatedResults(TWO_METHODS), windows))
      const terminal = recordedTerminal()
      expect(await runCommand(['lab', 'compare', dir, '--methods', 'wanda,copal'], terminal)).toBe(0)
      const rows = terminal.output().split('\n')
      expect(rows.find((row) => row.startsWith('mail'))).toMatch(
        /^mail +[\d.]+ +[\d.]+ +[+−][\d.]+ +too few windows +[\d.]+ +too few windows$/,
      )
      expect(rows.filter((row) => row.length > 80)).toEqual([])
    }
  })

  test('JSON has the full intervals and the bootstrap parameters', async () => {
    const dir = temporaryDir()
    await writeResults(dir, generatedResults())
    const terminal = recordedTerminal()
    expect(
      await runCommand(['lab', 'compare', dir, '--methods', 'wanda, continual-wanda', '--json'], terminal),
    ).toBe(0)
    const { bootstrap, rows } = JSON.parse(terminal.output()) as {
      bootstrap: unknown
      rows: { nll: { mean: number; low: number; high: number } }[]
    }
    expect(bootstrap).toEqual({ resamples: 10_000, seed: 0 })
    for (const { nll } of rows) {
      expect(nll.low).toBeLessThan(nll.mean)
      expect(nll.mean).toBeLessThan(nll.high)
    }
  })

  test.each([
    { args: ['x', 'y'], says: 'y does not exist' },
    { args: ['x', 'broken.json'], says: 'broken.json is not JSON' },
    { args: ['x', '--methods', 'wanda,nowag'], says: 'This result has no method nowag.' },
  ])('$args exits with 1 and says what is wrong in one line', async ({ args, says }) => {
    const cwd = temporaryDir()
    mkdirSync(join(cwd, 'x'))
    await writeResults(join(cwd, 'x'), generatedResults(TWO_METHODS))
    writeFileSync(join(cwd, 'broken.json'), '{"format_')
    const terminal = recordedTerminal({ cwd })
    expect(await runCommand(['lab', 'compare', ...args], terminal)).toBe(1)
    expect(terminal.errors()).toContain(says)
    expect(terminal.errors().trimEnd()).not.toContain('\n')
    expect(terminal.output()).toBe('')
  })
})
