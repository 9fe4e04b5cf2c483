import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { isAlive } from '../../../../gpu-node/src/platform/process-identity.ts'
import {
  runCalibration,
  type CalibrationOptions,
} from '../../../../gpu-node/src/pruning/runs/run-calibration.ts'
import type { DatasetFile } from '../../../../gpu-node/src/pruning/runs/calibration-task.ts'
import type {
  ChildMessage,
  ChildRequest,
} from '../../../../gpu-node/src/pruning/runs/pruning-child-protocol.ts'
import { writeWordsDataset } from '../../../support/pruning/calibration-datasets.ts'
import { tinyCalibration } from '../../../support/pruning/tiny-calibration.ts'
import { stopAtProgress } from '../../../support/faults/stop-at-progress.ts'
import { WAIT } from '../../../support/harness/wait.ts'
import { storedStatistics, statisticsFolderOf } from '../../../support/pruning/stored-statistics.ts'
import { commandLine, descendants } from '../../../support/processes/service.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

const PROGRAM = fileURLToPath(
  new URL('../../../../gpu-node/src/pruning/runs/pruning-child.ts', import.meta.url),
)
const LAYERS = 8

let tiny: TinyModel
let dataset: DatasetFile
/** Enough text that the tests end a calibration long before it is done. */
let long: DatasetFile
let counter = 0

beforeAll(async () => {
  tiny = await openTinyModel({ layers: LAYERS, hiddenSize: 128, intermediateSize: 256 })
  dataset = await writeWordsDataset(tiny.dir, 'legal', 1, 60)
  long = await writeWordsDataset(tiny.dir, 'legal', 2, 1000)
})

afterAll(() => tiny.remove())

function options(changes: Partial<CalibrationOptions> = {}): CalibrationOptions {
  return { ...tinyCalibration(tiny, dataset, `run-${counter++}`), ...changes }
}

let uninterrupted: ReturnType<typeof runCalibration> | undefined

/** Returns the outcome of a calibration that nothing interrupted. It runs once for all tests. */
function whole() {
  return (uninterrupted ??= runCalibration(options()))
}

/** Starts the child program, and kills it when it has reported `blocks` blocks. */
async function killAfter(given: CalibrationOptions, blocks: number) {
  const { model, threads, onProgress: _, signal: __, ...task } = given
  const env = { ...process.env, ...stopAtProgress(`calibrating legal, block ${blocks} of`) }
  const child = fork(PROGRAM, [], { serialization: 'advanced', execArgv: [], env })
  child.send({ kind: 'calibrate', model, task, threads: threads ?? 1 } satisfies ChildRequest)
  await untilBlock(child, blocks)
  child.kill('SIGKILL')
  await once(child, 'exit')
}

async function untilBlock(child: ChildProcess, blocks: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    child.on('message', (message: ChildMessage) => {
      if (message.type === 'progress' && message.progress.message.includes(`block ${blocks} of`)) resolve()
    })
    child.once('exit', () => reject(new Error('the child ended before it could be killed')))
  })
}

/** Returns how long the threads of a process have run, or waited for a processor that others had, in seconds. */
async function runnableSeconds(pid: number): Promise<number> {
  const threads = await readdir(`/proc/${pid}/task`)
  const times = await Promise.all(
    threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').catch(() => '0 0')),
  )
  return times.reduce((sum, text) => {
    const [ranNs = 0, waitedNs = 0] = text.split(' ').map(Number)
    return sum + (ranNs + waitedNs) / 1e9
  }, 0)
}

test.skipIf(process.platform !== 'linux')(
  'a calibration takes its share of the time while requests run, and all of it when they have ended',
  async () => {
    const before = new Set(descendants(process.pid))
    const childOf = () =>
      descendants(process.pid).find((pid) => !before.has(pid) && commandLine(pid).includes('pruning-child'))
    let setBusy: (isBusy: boolean) => void = () => undefined
    const given = options({
      datasets: [long],
      samples: 400,
      share: 0.25,
      watchTraffic: (onChange) => {
        setBusy = onChange
        onChange(true)
        return () => undefined
      },
    })
    const blocks: string[] = []
    const abort = new AbortController()
    const running = runCalibration({
      ...given,
      signal: abort.signal,
      onProgress: ({ message }) => blocks.push(message),
    })
    running.catch(() => undefined)
    await expect.poll(() => blocks.length, { interval: 10 }).toBeGreaterThan(0)
    const pid = childOf() ?? 0
    /** Returns the share of the time in which the child works, or would if other processes left it a processor. */
    const measure = async (ms: number) => {
      const [startMs, startS] = [performance.now(), await runnableSeconds(pid)]
      await sleep(ms)
      return ((await runnableSeconds(pid)) - startS) / ((performance.now() - startMs) / 1_000)
    }
    // On a busy machine a piece and the wait after it may take longer than a measurement, which then shows all or nothing.
    let bound = 0
    await expect
      .poll(async () => (bound = await measure(2_000)), WAIT)
      .toSatisfy((share: number) => share > 0.25 / 5 && share < 0.25 * 1.2)
    setBusy(false)
    await sleep(100)
    await expect.poll(() => measure(500), WAIT).toBeGreaterThan(bound * 1.5)
    abort.abort(new Error('enough'))
    await expect(running).rejects.toThrow('enough')
  },
)

test('the child process returns the mask of its task, reports every block, and gives the same bytes again', async () => {
  const messages: string[] = []
  const fractions: number[] = []
  const given = options({
    onProgress: ({ fraction, message }) => {
      fractions.push(fraction)
      messages.push(message)
    },
  })
  const outcome = await runCalibration(given)
  for (let block = 1; block <= LAYERS; block++) {
    expect(
      messages.some((message) => message.startsWith(`calibrating legal, block ${block} of ${LAYERS}`)),
    ).toBe(true)
    expect(
      messages.some((message) => message.startsWith(`selecting weights, block ${block} of ${LAYERS}`)),
    ).toBe(true)
  }
  expect(messages.at(-1)).toMatch(/about 0 s left$/)
  expect(fractions).toEqual([...fractions].sort((a, b) => a - b))
  expect(fractions.at(-1)).toBe(1)
  const again = await whole()
  expect(again.maskSha256).toBe(outcome.maskSha256)
  expect(await readFile(again.maskPath)).toEqual(await readFile(outcome.maskPath))
})

test.each([1, LAYERS])(
  'a calibration that was killed after block %i continues there and gives the same bytes',
  async (blocks) => {
    const messages: string[] = []
    const given = options({ onProgress: ({ message }) => messages.push(message) })
    await killAfter(given, blocks)
    const resumed = await runCalibration(given)
    expect(resumed.maskSha256).toBe((await whole()).maskSha256)
    const calibrated = messages.flatMap(
      (message) => /^calibrating legal, block (\d+)/.exec(message)?.[1] ?? [],
    )
    for (const block of calibrated) expect(Number(block)).toBeGreaterThanOrEqual(blocks)
    const folder = await statisticsFolderOf(given.statisticsDir, tiny.model)
    expect(await readdir(join(folder, 'partial'))).toEqual([])
  },
)

test('a calibration that is killed repeatedly at any time gives the same bytes', async () => {
  const given = options()
  for (const afterMs of [300, 600, 800]) {
    const abort = new AbortController()
    const running = runCalibration({ ...given, signal: abort.signal })
    await Promise.race([sleep(afterMs), running])
    abort.abort(new Error('killed'))
    await running.catch(() => undefined)
  }
  expect((await runCalibration(given)).maskSha256).toBe((await whole()).maskSha256)
})

test('damaged hidden states make the calibration start again', async () => {
  const given = options()
  await killAfter(given, 3)
  const partials = join(await statisticsFolderOf(given.statisticsDir, tiny.model), 'partial')
  const [name] = await readdir(partials)
  const dir = join(partials, name!)
  const hidden = (await readdir(dir)).find((file) => file.startsWith('hidden-'))!
  await writeFile(join(dir, hidden), 'damaged')
  expect((await runCalibration(given)).maskSha256).toBe((await whole()).maskSha256)
})

test('cancelling ends the child at once, and leaves neither mask nor statistics', async () => {
  const abort = new AbortController()
  const given = options({
    datasets: [long],
    samples: 600,
    signal: abort.signal,
    onProgress: () => abort.abort(new Error('not wanted any more')),
  })
  await expect(runCalibration(given)).rejects.toThrow('not wanted any more')
  expect(existsSync(given.workDir)).toBe(false)
  expect(await storedStatistics(given.statisticsDir, tiny.model)).toEqual([])
  await expect(runCalibration(given)).rejects.toThrow('not wanted any more')
})

test('the child ends when its parent is killed', async () => {
  const dir = join(tiny.dir, 'orphan')
  await mkdir(dir)
  const parentProgram = join(dir, 'parent.mjs')
  const { model, threads, ...task } = options({ datasets: [long], samples: 600 })
  await writeFile(
    parentProgram,
    `import { fork } from 'node:child_process'
     const child = fork(${JSON.stringify(PROGRAM)}, [], { serialization: 'advanced', execArgv: [] })
     child.send(${JSON.stringify({ kind: 'calibrate', model, task, threads })})
     child.on('message', () => process.send(child.pid))`,
  )
  const parent = fork(parentProgram, [], { execArgv: [] })
  const [pid] = (await once(parent, 'message')) as [number]
  parent.kill('SIGKILL')
  await once(parent, 'exit')
  await expect.poll(() => isAlive(pid)).toBe(false)
  expect(existsSync(task.workDir)).toBe(false)
})

test('an error of the child reaches the caller unchanged', async () => {
  await expect(runCalibration(options({ length: 1000 }))).rejects.toMatchObject({ code: 'invalid_request' })
  const { model } = options()
  const other = { ...model, baseSha256: '0'.repeat(64) }
  await expect(runCalibration(options({ model: other }))).rejects.toMatchObject({ code: 'unsupported_model' })
})

test.skipIf(process.platform !== 'linux')(
  'when the process that uses a GPU dies, the processor goes on with the update',
  async () => {
    const before = new Set(descendants(process.pid))
    const warnings: string[] = []
    let isKilled = false
    const outcome = await runCalibration(
      options({
        // Without such a device the child computes everything itself; it dies as it would by a fault of a driver.
        gpu: { device: 'no such device' },
        onWarning: (message) => warnings.push(message),
        onGpuLeft: (neededBytes) => warnings.push(`left, ${neededBytes} needed`),
        onProgress: () => {
          const child = descendants(process.pid).find(
            (pid) => !before.has(pid) && commandLine(pid).includes('pruning-child'),
          )
          if (isKilled || child === undefined) return
          isKilled = true
          process.kill(child, 'SIGKILL')
        },
      }),
    )
    expect(isKilled).toBe(true)
    // Its memory is free before the processor begins.
    expect(warnings.pop()).toBe('left, 0 needed')
    expect(warnings.at(-1)).toMatch(/^the GPU cannot go on .* the processor does: .* ended by SIGKILL/)
    expect(await readFile(outcome.maskPath)).toEqual(await readFile((await whole()).maskPath))
  },
)
