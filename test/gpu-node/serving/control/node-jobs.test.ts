import { mkdir, readdir, readlink, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import type { EvaluateJob, EvaluateResult, Job } from '@copal/shared/wire/adaptation-jobs.ts'
import { openJobRunner, type JobContext } from '../../../../gpu-node/src/serving/control/node-jobs.ts'
import { memoryLog } from '../../../support/doubles/memory-log.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { WAIT } from '../../../support/harness/wait.ts'

const RESULT: EvaluateResult = { kind: 'evaluate', domains: [] }

function evaluateJobOf(id: string): Job {
  return { kind: 'evaluate', id, model: 'tiny', mask: null, holdouts: [], windowTokens: 16 }
}

/** Creates work that a test completes or fails explicitly. */
function setup() {
  const home = temporaryDir()
  const started: string[] = []
  interface Running {
    context: JobContext
    done: (result?: EvaluateResult) => void
    fail: (error: Error) => void
  }
  const running = new Map<string, Running>()
  const evaluate = (job: EvaluateJob, context: JobContext) =>
    context.retry(
      () =>
        new Promise<EvaluateResult>((resolve, reject) => {
          started.push(job.id)
          context.signal.addEventListener('abort', () => reject(context.signal.reason))
          running.set(job.id, { context, done: (result = RESULT) => resolve(result), fail: reject })
        }),
    )
  const open = async () => {
    const runner = await openJobRunner({
      home,
      work: { evaluate, calibrate: () => Promise.reject(new Error('not in this test')) },
      log: memoryLog(),
      onChange: () => {},
      retryMs: 1,
    })
    onTestFinished(() => runner.close())
    return runner
  }
  const at = async (id: string) =>
    vi.waitFor(() => {
      const work = running.get(id)
      if (!work) throw new Error(`${id} has not started`)
      return work
    }, WAIT)
  return { home, open, started, at }
}

test('jobs run one at a time, in the order of their arrival', async () => {
  const { open, started, at } = setup()
  const runner = await open()
  const jobs = [evaluateJobOf('one'), evaluateJobOf('two')]
  runner.apply(jobs, [])
  runner.apply(jobs, ['one', 'two'])
  const one = await at('one')
  expect(started).toEqual(['one'])
  one.context.progress(0.5, 'half way')
  expect(runner.reports()).toMatchObject([
    { id: 'one', state: 'running', progress: 0.5, message: 'half way' },
    { id: 'two', state: 'running', progress: 0 },
  ])
  one.done()
  await at('two')
  expect(runner.reports()[0]).toMatchObject({ id: 'one', state: 'done', progress: 1, result: RESULT })
})

test('a result is reported until the gateway no longer lists the job, then forgotten', async () => {
  const { home, open, at, started } = setup()
  const runner = await open()
  runner.apply([evaluateJobOf('one')], [])
  ;(await at('one')).done()
  await vi.waitFor(() => expect(runner.reports()[0]?.state).toBe('done'), WAIT)
  runner.apply([evaluateJobOf('one')], ['one'])
  expect(runner.reports()).toHaveLength(1)
  expect(started).toEqual(['one'])
  runner.apply([], ['one'])
  expect(runner.reports()).toEqual([])
  await vi.waitFor(async () => expect(await readdir(join(home, 'jobs'))).toEqual([]), WAIT)
})

test('a reply to a heartbeat that did not report a job does not settle it', async () => {
  const { open, at } = setup()
  const runner = await open()
  runner.apply([evaluateJobOf('one')], [])
  const one = await at('one')
  runner.apply([], [])
  expect(one.context.signal.aborted).toBe(false)
  expect(runner.reports()).toHaveLength(1)
})

test('a job that the gateway drops is cancelled, and the next one starts', async () => {
  const { open, at } = setup()
  const runner = await open()
  runner.apply([evaluateJobOf('one'), evaluateJobOf('two')], [])
  const one = await at('one')
  runner.apply([evaluateJobOf('two')], ['one', 'two'])
  expect(one.context.signal.aborted).toBe(true)
  await at('two')
  expect(runner.reports().map(({ id }) => id)).toEqual(['two'])
})

test('a finished result survives a restart and its work is not repeated', async () => {
  const { home, open, at, started } = setup()
  const killed = await open()
  killed.apply([evaluateJobOf('update/1:evaluate')], [])
  ;(await at('update/1:evaluate')).done()
  const kept = [`${encodeURIComponent('update/1:evaluate')}.json`]
  await vi.waitFor(async () => expect(await readdir(join(home, 'jobs'))).toEqual(kept), WAIT)
  const restarted = await open()
  restarted.apply([evaluateJobOf('update/1:evaluate')], [])
  expect(restarted.reports()).toMatchObject([{ id: 'update/1:evaluate', state: 'done', result: RESULT }])
  expect(started).toHaveLength(1)
})

test('a result file that cannot be read fails the start and is kept', async () => {
  const { home, open } = setup()
  const path = join(home, 'jobs', 'one.json')
  await mkdir(join(home, 'jobs'))
  await symlink(path, path)
  await expect(open()).rejects.toThrow(`${path} cannot be read`)
  expect(await readlink(path)).toBe(path)
})

test('an unfinished job is started again after a restart', async () => {
  const { open, at, started } = setup()
  const stopped = await open()
  stopped.apply([evaluateJobOf('one')], [])
  await at('one')
  await stopped.close()
  expect(stopped.reports()[0]?.state).toBe('running')
  const restarted = await open()
  expect(restarted.reports()).toEqual([])
  restarted.apply([evaluateJobOf('one')], [])
  await vi.waitFor(() => expect(started).toEqual(['one', 'one']), WAIT)
})

test('a temporary failure is repeated, a permanent one is reported with its code', async () => {
  const { open, at, started } = setup()
  const runner = await open()
  runner.apply([evaluateJobOf('one')], [])
  ;(await at('one')).fail(new AppError('no_node_available', 'The gateway is away.'))
  await vi.waitFor(() => expect(started).toHaveLength(2), WAIT)
  expect(runner.reports()[0]?.state).toBe('running')
  ;(await at('one')).fail(new AppError('insufficient_samples', 'There are 3 samples of 16.'))
  await vi.waitFor(() => expect(runner.reports()[0]?.state).toBe('failed'), WAIT)
  expect(runner.reports()[0]?.error).toEqual({
    code: 'insufficient_samples',
    message: 'There are 3 samples of 16.',
  })
})

test.each([
  ['node_failed', 3],
  ['service_unavailable', 20],
] as const)('%s is tried %i times', async (code, times) => {
  const { open, at, started } = setup()
  const runner = await open()
  runner.apply([evaluateJobOf('one')], [])
  for (let count = 1; count <= times; count++) {
    await vi.waitFor(() => expect(started).toHaveLength(count), WAIT)
    ;(await at('one')).fail(new AppError(code, 'It fails.'))
  }
  await vi.waitFor(() => expect(runner.reports()[0]?.state).toBe('failed'), WAIT)
  expect(runner.reports()[0]?.error).toEqual({ code, message: 'It fails.' })
  expect(started).toHaveLength(times)
})

test('a job waits for an unreachable gateway', async () => {
  const { open, at, started } = setup()
  const runner = await open()
  runner.apply([evaluateJobOf('one')], [])
  for (let count = 1; count <= 40; count++) {
    await vi.waitFor(() => expect(started).toHaveLength(count), WAIT)
    ;(await at('one')).fail(new AppError('no_node_available', 'It is away.'))
  }
  await vi.waitFor(() => expect(started).toHaveLength(41), WAIT)
  ;(await at('one')).done()
  await vi.waitFor(() => expect(runner.reports()[0]?.state).toBe('done'), WAIT)
})

test('reports never hold numbers that JSON cannot represent, since the gateway would reject every heartbeat', async () => {
  const { home, open, at } = setup()
  const runner = await open()
  runner.apply([evaluateJobOf('one')], [])
  const one = await at('one')
  one.context.progress(Number.NaN, 'dividing by nothing')
  expect(runner.reports()[0]).toMatchObject({ progress: 0, message: 'dividing by nothing' })
  const figures = { domain: 'legal', holdoutSha256: 'a'.repeat(64), tokens: 1, perplexity: 1 }
  one.done({ kind: 'evaluate', domains: [{ ...figures, nllMean: Number.NaN }] })
  await vi.waitFor(() => expect(runner.reports()[0]?.state).toBe('failed'), WAIT)
  const [report] = runner.reports()
  expect(report).not.toHaveProperty('result')
  expect(report?.error?.message).toContain('result.domains[0].nllMean')
  expect(await readdir(join(home, 'jobs'))).toEqual([])
})
