import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { runCommand } from '../../../../gpu-node/cli/program.ts'
import { readResults } from '../../../../gpu-node/lab/results/results-file.ts'
import { isAlive } from '../../../../gpu-node/src/platform/process-identity.ts'
import { createLabFolder, type LabFolder } from '../../../support/pruning/lab-folder.ts'
import { isStopped, stopAtProgress } from '../../../support/faults/stop-at-progress.ts'
import { WAIT } from '../../../support/harness/wait.ts'
import { recordedTerminal } from '../../../support/doubles/recorded-terminal.ts'

// Each mask is evaluated in its own process, which takes seconds, or a minute on a busy machine.
vi.setConfig({ testTimeout: 600_000 })

const PROGRAM = fileURLToPath(new URL('../../../../gpu-node/cli/main.ts', import.meta.url))
const SIZES = [
  '--samples',
  '2',
  '--length',
  '32',
  '--windows',
  '2',
  '--window-tokens',
  '32',
  '--threads',
  '1',
]
const LAW = [
  '--domain',
  'law=law.cal.txt:law.eval.txt',
  '--domain',
  'mail=:mail.eval.txt',
  '--model',
  './model',
]

let folder: LabFolder

beforeEach(async () => {
  folder = await createLabFolder()
})

const terminalHere = () =>
  recordedTerminal({ cwd: folder.dir, env: { COPAL_CACHE: join(folder.dir, 'cache') } })
const lab = (...args: string[]) => ['lab', 'run', ...LAW, ...SIZES, '--out', 'out', ...args]

test('a run prints its figures and writes results and report', async () => {
  const terminal = terminalHere()
  expect(await runCommand(lab('--methods', 'copal'), terminal)).toBe(0)
  expect(terminal.errors()).toMatch(/1 domain in 1 order, 1 domain only evaluated; 1 mask\./)
  expect(terminal.errors()).toMatch(/To do: 1 calibration \(.*\), 1 selection \(.*\), 2 evaluations \(.*\)\./)
  expect(terminal.errors()).toMatch(/Estimate: .* of memory, .* more in .*out\./)
  expect(terminal.output()).toMatch(/METHOD\s+PATTERN\s+A-BWT\s+M-BWT\s+A-PPL\s+M-PPL\ncopal\s+0\.5/)
  expect(terminal.output()).toContain('Mean (A-) and largest (M-) backward transfer')
  expect(terminal.output()).toMatch(/Done in .*: 1 calibration, 1 selection, 4 evaluations\./)
  expect(readdirSync(join(folder.dir, 'out'))).toEqual(
    expect.arrayContaining(['cache', 'report.html', 'report.md', 'results.json']),
  )
  expect(readFileSync(join(folder.dir, 'out', 'report.md'), 'utf8')).toContain('copal')
})

test('a dry run prints the plan and does no work', async () => {
  const terminal = terminalHere()
  const args = lab('--methods', 'copal,copal@matrix', '--pattern', '0.5,2:4', '--dry-run')
  expect(await runCommand(args, terminal)).toBe(0)
  expect(terminal.output()).toContain(
    '  copal at 50 % unstructured: 1 mask\n  copal per matrix at 50 % unstructured: 1 mask\n  copal at 2:4: 1 mask\nTo do: ',
  )
  expect(existsSync(join(folder.dir, 'out'))).toBe(false)
  const json = terminalHere()
  expect(await runCommand(lab('--methods', 'wanda', '--dry-run', '--json'), json)).toBe(0)
  expect(JSON.parse(json.output())).toMatchObject({
    masks: 1,
    to_do: { calibrations: 1, selections: 1, evaluations: 2 },
    estimate: { guessed: ['wanda'] },
    runs: [{ purpose: 'main', method: 'wanda', scope: 'row', pattern: '0.5', samples: 2, masks: 1 }],
  })
})

test('pattern rules come from a file, followed by the linears to skip', async () => {
  writeFileSync(join(folder.dir, 'rules.json'), '{"*.q_proj.weight": "0.3"}')
  const terminal = terminalHere()
  const rules = ['--patterns', 'rules.json', '--leave-out', 'model.layers.0.*']
  expect(await runCommand(lab('--methods', 'magnitude', ...rules), terminal)).toBe(0)
  const { settings } = await readResults(join(folder.dir, 'out'))
  expect(settings.patternRules).toEqual({ '*.q_proj.weight': '0.3', 'model.layers.0.*': 'dense' })
  expect(readFileSync(join(folder.dir, 'out', 'report.md'), 'utf8')).toContain(
    'Single linears have patterns of their own, and percentages are of the others: \\*.q\\_proj',
  )
})

test('Ctrl-C stops the run and keeps finished work', async () => {
  const abort = new AbortController()
  const terminal = terminalHere()
  const stderr = {
    write(text: string) {
      if (text.includes('Laboratory')) abort.abort()
      return terminal.stderr.write(text)
    },
  }
  expect(await runCommand(lab(), { ...terminal, stderr, signal: abort.signal })).toBe(1)
  expect(terminal.errors()).toContain(`copal: Stopped. Finished work is kept in ${join(folder.dir, 'out')}`)
  expect(readdirSync(join(folder.dir, 'out'))).not.toContain('running.json')
})

test('killing the command ends its child processes, and the next run resumes', async () => {
  const args = lab('--methods', 'copal', '--model', join(folder.dir, 'model'))
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    cwd: folder.dir,
    env: {
      ...process.env,
      COPAL_CACHE: join(folder.dir, 'cache'),
      // It must not finish before the other command finds its lock.
      ...stopAtProgress('calibrating law, block 1 of'),
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let said = ''
  await new Promise<void>((resolve, reject) => {
    // Keep reading: a process ends by itself when its reader is gone.
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (said.includes('Laboratory')) resolve()
    })
    child.once('exit', () => reject(new Error(said)))
  })
  const { pid } = JSON.parse(readFileSync(join(folder.dir, 'out', 'running.json'), 'utf8')) as { pid: number }
  expect(pid).toBe(child.pid)
  const children = await vi.waitFor(() => {
    const pids = childrenOf(pid)
    expect(pids.map(isStopped)).toEqual([true])
    return pids
  }, WAIT)
  const refused = terminalHere()
  expect(await runCommand(lab('--methods', 'copal'), refused)).toBe(1)
  expect(refused.errors()).toContain(`pid ${pid}`)
  child.kill('SIGKILL')
  await once(child, 'exit')
  for (const stopped of children) process.kill(stopped, 'SIGCONT')
  while (children.some(isAlive)) await new Promise((resolve) => setTimeout(resolve, 20))
  expect(await runCommand(lab('--methods', 'copal'), terminalHere())).toBe(0)
})

test.each([
  [
    ['--methods', 'copall'],
    /'--methods <list>' does not take 'copall'. There is no pruning method 'copall'. Did you mean 'copal'\?/,
  ],
  [['--pattern', '0.5,1.5'], /the fraction of pruned weights must be above 0 and below 1/],
  [['--domain', 'law'], /The domain 'law' is invalid: expected name=calibration.txt:evaluation.txt/],
  [['--samples', '0'], /At least 1 is expected/],
  [['--permutations', 'some'], /Expected 'all', 'first', or a number of orders to draw/],
  [['--sweep-samples', '4,x'], /A whole number is expected/],
  [['--window-tokens', '1'], /A window needs at least two tokens/],
])('%j is a wrong command line', async (args, reason) => {
  const terminal = terminalHere()
  expect(await runCommand(lab(...args), terminal)).toBe(2)
  expect(terminal.errors()).toMatch(reason)
})

test('a swept method must be one of the compared methods', async () => {
  const terminal = terminalHere()
  const swept = ['--sweep-methods', 'copal,wanda', '--sweep-sparsity', '0.3', '--dry-run']
  expect(await runCommand(lab('--methods', 'copal', ...swept), terminal)).toBe(2)
  expect(terminal.errors()).toContain(
    "error: 'wanda' is in --sweep-methods but not in --methods. Add it to --methods.\n",
  )
  const both = terminalHere()
  expect(await runCommand(lab('--methods', 'copal,wanda', ...swept.with(1, 'copal')), both)).toBe(0)
  expect(both.output()).toMatch(/copal at 30 % unstructured/)
  expect(both.output()).not.toMatch(/wanda at 30 % unstructured/)
})

test('an error found only in the texts is JSON on request', async () => {
  const json = terminalHere()
  expect(await runCommand(lab('--samples', '4000', '--json'), json)).toBe(1)
  expect(JSON.parse(json.errors().trim().split('\n').at(-1) as string)).toMatchObject({
    error: { code: 'insufficient_samples' },
  })
})

test.each([
  [['--samples', '4000'], /'law': 4000 sequences of 32 tokens need/],
  [['--leave-out', '*.q_prj.weight'], /No linear of this model matches '\*\.q_prj\.weight'/],
])('%j is refused in one line, and of the folders only those that were there stay', async (args, reason) => {
  mkdirSync(join(folder.dir, 'old'))
  const terminal = terminalHere()
  expect(await runCommand(lab(...args, '--out', 'old/new/out'), terminal)).toBe(1)
  expect(terminal.errors()).toMatch(reason)
  expect(terminal.errors()).toMatch(/^copal: .*\n$/m)
  expect(readdirSync(join(folder.dir, 'old'))).toEqual([])
})

/** Child processes of this process. */
function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .trim()
    .split(' ')
    .filter(Boolean)
    .map(Number)
}
