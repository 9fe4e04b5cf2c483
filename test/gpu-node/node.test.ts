import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { checkMask, decodeMask, encodeMask, maskSparsity, type Mask } from '@copal/shared/mask/codec.ts'
import type {
  CalibrateJob,
  EvaluateEvent,
  EvaluateJob,
  Heartbeat,
  JobReport,
} from '@copal/shared/wire/node-rpc.ts'
import { BLOCK_LINEARS, linearName, linearShape } from '../../gpu-node/src/model/config.ts'
import { openModel } from '../../gpu-node/src/model/load.ts'
import { startGatewayDouble, type GatewayDouble } from '../support/gateway-double.ts'
import { startNodeProcess, type NodeProcess } from '../support/node-process.ts'
import { commandLine, descendants } from '../support/service.ts'
import { temporaryDir } from '../support/temporary.ts'
import { createTinyLlama, type TinyLlama } from '../support/tiny-llama.ts'

const WAIT = { timeout: 40_000, interval: 20 }
const TEXTS = Array.from(
  { length: 40 },
  (_, index) =>
    `Article ${index}: the other party is to send all of the notes within ${index + 3} days, and no later than that.`,
)

let shared: { tiny: TinyLlama; cacheDir: string; baseSha256: string }

beforeAll(async () => {
  const dir = await mkdtemp(join(tmpdir(), 'copal-node-'))
  const tiny = await createTinyLlama(join(dir, 'tiny'))
  const cacheDir = join(dir, 'cache')
  const { master } = await openModel(tiny.dir, { cacheDir })
  shared = { tiny, cacheDir, baseSha256: master.baseSha256 }
})

afterAll(async () => {
  await rm(dirname(shared.cacheDir), { recursive: true, force: true })
})

interface Setup {
  gateway: GatewayDouble
  home: string
  start: (env?: Record<string, string>) => Promise<NodeProcess>
}

async function setup(): Promise<Setup> {
  const gateway = await startGatewayDouble()
  const home = temporaryDir('copal-home')
  onTestFinished(() => gateway.close())
  return {
    gateway,
    home,
    async start(env = {}) {
      const node = startNodeProcess({
        COPAL_MODEL: shared.tiny.dir,
        COPAL_HOME: home,
        COPAL_CACHE: shared.cacheDir,
        COPAL_NODE_PORT: '0',
        COPAL_GATEWAY_URL: gateway.url,
        COPAL_NODE_SECRET: gateway.secret,
        COPAL_THREADS: '1',
        // Its sets are processes, which may be watched and killed; the engine's are in the node itself.
        COPAL_BACKEND: 'onnx',
        ...env,
      })
      onTestFinished(async () => void (await node.end('SIGKILL')))
      await node.ready()
      return node
    },
  }
}

async function urlOf(node: NodeProcess): Promise<string> {
  return (await node.ready()).url
}

/** The newest beat for which `holds`; the gateway hears of changes at once. */
function beatWhere(gateway: GatewayDouble, holds: (beat: Heartbeat) => boolean): Promise<Heartbeat> {
  return vi.waitFor(() => {
    const beat = gateway.beats.at(-1)
    if (!beat || !holds(beat)) throw new Error(`not yet: ${JSON.stringify(beat)}`)
    return beat
  }, WAIT)
}

function reportWhere(
  gateway: GatewayDouble,
  id: string,
  holds: (report: JobReport) => boolean,
): Promise<JobReport> {
  return vi.waitFor(() => {
    const report = gateway.reports.get(id)
    if (!report || !holds(report)) throw new Error(`not yet: ${JSON.stringify(report)}`)
    return report
  }, WAIT)
}

/** A mask of the tiny model that keeps every second weight, from `first` on. */
function halfMask(first: 0 | 1, baseSha256 = shared.baseSha256): Mask {
  const linears = new Map<string, { rows: number; cols: number; bits: Uint8Array }>()
  for (let layer = 0; layer < shared.tiny.config.layers; layer++) {
    for (const linear of BLOCK_LINEARS) {
      const [rows, cols] = linearShape(shared.tiny.config, linear)
      const bits = new Uint8Array(rows * (cols / 8)).fill(first === 0 ? 0b01010101 : 0b10101010)
      linears.set(linearName(layer, linear), { rows, cols, bits })
    }
  }
  const meta = {
    method: 'magnitude',
    pattern: '0.5',
    scope: 'row' as const,
    patterns: {},
    domains: ['legal'],
    parent: null,
    created: '2026-11-25T00:00:00.000Z',
    baseSha256,
  }
  return { meta, linears }
}

/** The same mask as a weights file: every surviving weight is 1/128. */
function withValues({ meta, linears }: Mask): Mask {
  const valued = [...linears].map(
    ([name, linear]) =>
      [name, { ...linear, values: new Uint16Array((linear.rows * linear.cols) / 2).fill(0x3c00) }] as const,
  )
  return { meta, linears: new Map(valued) }
}

function calibrateJob(gateway: GatewayDouble, id: string): CalibrateJob {
  return {
    kind: 'calibrate',
    id,
    model: 'tiny',
    datasets: [gateway.addDataset('legal', TEXTS)],
    accumulated: [],
    samples: 8,
    length: 64,
    seed: 0,
    selection: { method: 'copal', pattern: '0.5', scope: 'row' },
    parent: null,
    created: '2026-11-25T00:00:00.000Z',
  }
}

async function generate(
  gateway: GatewayDouble,
  node: NodeProcess,
  requestId: string,
  maskVersion?: number,
  shadowVersion?: number,
): Promise<{ mask: string | null; text: string; logprobs: number[] }> {
  const response = await gateway.callNode(await urlOf(node), 'POST', '/rpc/completions', {
    requestId,
    domain: 'legal',
    sample: true,
    maskVersion,
    shadowVersion,
    request: {
      model: 'tiny',
      prompt: 'the other party is to send all of the notes within',
      max_tokens: 12,
      temperature: 0,
      logprobs: 0,
    },
  })
  const body = (await response.json()) as {
    choices: { text: string; logprobs: { token_logprobs: number[] } }[]
  }
  expect({ status: response.status, body }).toMatchObject({ status: 200 })
  const [choice] = body.choices
  const logprobs = choice?.logprobs.token_logprobs ?? []
  return { mask: response.headers.get('x-copal-mask'), text: choice?.text ?? '', logprobs }
}

test('a node serves dense, calibrates a mask, uploads it, swaps to it and evaluates it', async () => {
  const { gateway, start } = await setup()
  const node = await start()
  const dense = await beatWhere(gateway, (beat) => beat.weightSets.some(({ state }) => state === 'ready'))
  expect(dense).toMatchObject({
    activeVersion: 0,
    draining: false,
    model: { id: 'tiny', contextLength: 256 },
  })
  expect((await generate(gateway, node, 'request-dense')).mask).toBe('0')

  gateway.jobs.push(calibrateJob(gateway, 'calibrate-1'))
  const { result } = await reportWhere(gateway, 'calibrate-1', ({ state }) => state === 'done')
  if (result?.kind !== 'calibrate') throw new Error('not a calibrate result')
  const file = gateway.artifacts.get(`masks/${result.maskSha256}`)
  if (!file) throw new Error('the mask was not uploaded before it was reported')
  const mask = decodeMask(file)
  const shapes = new Map([...mask.linears].map(([name, { rows, cols }]) => [name, [rows, cols] as const]))
  checkMask(mask, { baseSha256: dense.model.baseSha256, shapes })
  expect(mask.linears.size).toBe(14)
  expect(maskSparsity(mask)).toBe(0.5)
  expect(result).toMatchObject({ maskBytes: file.length, sparsity: 0.5, churn: null })

  gateway.desired = { active: { version: 1, sha256: result.maskSha256 }, previous: null }
  await beatWhere(gateway, (beat) => beat.activeVersion === 1)
  expect((await generate(gateway, node, 'request-pruned')).mask).toBe('1')
  await vi.waitFor(() => expect(gateway.receipts.size).toBe(2), WAIT)
  const drift = gateway.receipts.get('request-pruned')?.drift
  expect(drift?.tokens).toBeGreaterThan(0)
  expect(drift?.nllMasked).not.toBe(drift?.nllDense)

  const holdout = gateway.addDataset('legal', TEXTS.slice(0, 5))
  const evaluateJob: EvaluateJob = {
    kind: 'evaluate',
    id: 'evaluate-1',
    model: 'tiny',
    mask: result.maskSha256,
    holdouts: [holdout],
    windowTokens: 32,
  }
  gateway.jobs.push(evaluateJob, { ...evaluateJob, id: 'evaluate-dense', mask: null })
  const pruned = await reportWhere(gateway, 'evaluate-1', ({ state }) => state === 'done')
  const unpruned = await reportWhere(gateway, 'evaluate-dense', ({ state }) => state === 'done')
  expect(pruned.result).toMatchObject({
    kind: 'evaluate',
    domains: [{ domain: 'legal', holdoutSha256: holdout.sha256 }],
  })
  if (pruned.result?.kind !== 'evaluate' || unpruned.result?.kind !== 'evaluate')
    throw new Error('not evaluations')
  expect(pruned.result.domains[0]?.tokens).toBe(unpruned.result.domains[0]?.tokens)
  expect(pruned.result.domains[0]?.nllMean).not.toBe(unpruned.result.domains[0]?.nllMean)

  const events = await evaluateText(gateway, node, { maskVersion: 1 })
  const last = events.at(-1)
  if (last?.type !== 'result') throw new Error(JSON.stringify(last))
  expect(last.maskVersion).toBe(1)
  expect(last.perplexity).toBeCloseTo(Math.exp(last.nllMean), 6)
  expect(events[0]?.type).toBe('progress')
  await beatWhere(gateway, (beat) => beat.jobs.length === 0)

  // Nothing of the evaluations is left running: dense and the active mask have a process each.
  await vi.waitFor(() => expect(weightSetPids(node)).toHaveLength(2), WAIT)
})

function weightSetPids(node: NodeProcess): number[] {
  return descendants(node.pid).filter((pid) => commandLine(pid).includes('worker.ts'))
}

async function evaluateText(
  gateway: GatewayDouble,
  node: NodeProcess,
  call: object,
): Promise<EvaluateEvent[]> {
  const response = await gateway.callNode(await urlOf(node), 'POST', '/rpc/evaluate', {
    model: 'tiny',
    text: TEXTS.join(' '),
    windowTokens: 64,
    ...call,
  })
  const lines = (await response.text()).trim().split('\n')
  return lines.map((line) => JSON.parse(line) as EvaluateEvent)
}

test('a mask version that a node does not know cannot be evaluated without its hash', async () => {
  const { gateway, start } = await setup()
  const node = await start()
  await beatWhere(gateway, () => true)
  const response = await gateway.callNode(await urlOf(node), 'POST', '/rpc/evaluate', {
    model: 'tiny',
    maskVersion: 7,
    text: 'x y z',
  })
  expect(response.status).toBe(404)
})

test('killed during calibration, a node ends in the same mask as one that was not', async () => {
  const undisturbed = await setup()
  undisturbed.gateway.jobs.push(calibrateJob(undisturbed.gateway, 'calm'))
  const calm = await undisturbed.start()
  const expected = await reportWhere(undisturbed.gateway, 'calm', ({ state }) => state === 'done')
  await calm.end()

  const { gateway, start } = await setup()
  gateway.jobs.push(calibrateJob(gateway, 'hunted'))
  const victim = await start()
  await reportWhere(gateway, 'hunted', ({ state }) => state === 'running')
  const children = await vi.waitFor(() => {
    const pids = descendants(victim.pid)
    expect(pids.some((pid) => commandLine(pid).includes('calibrate-child'))).toBe(true)
    return pids
  }, WAIT)
  await victim.end('SIGKILL')
  await vi.waitFor(() => expect(children.filter((pid) => commandLine(pid) !== '')).toEqual([]), WAIT)

  const reborn = await start()
  const report = await reportWhere(gateway, 'hunted', ({ state }) => state === 'done')
  if (report.result?.kind !== 'calibrate' || expected.result?.kind !== 'calibrate')
    throw new Error('not masks')
  expect(report.result.maskSha256).toBe(expected.result.maskSha256)
  expect(gateway.artifacts.has(`masks/${report.result.maskSha256}`)).toBe(true)
  expect(await reborn.end()).toBe(0)
})

test('a damaged mask and a mask of another model are reported while the old mask goes on serving', async () => {
  const { gateway, start } = await setup()
  const good = gateway.addMask(encodeMask(halfMask(0)))
  gateway.desired = { active: { version: 1, sha256: good }, previous: null }
  const node = await start()
  await beatWhere(gateway, (beat) => beat.activeVersion === 1)
  const before = await generate(gateway, node, 'request-before')

  const wrongCounts = halfMask(1)
  const first = [...wrongCounts.linears.values()][0]
  if (!first) throw new Error('no linear')
  first.bits[0] = 0b10101011
  const bad = gateway.addMask(encodeMask(wrongCounts))
  gateway.desired = { active: { version: 2, sha256: bad }, previous: { version: 1, sha256: good } }
  const refused = await beatWhere(gateway, (beat) =>
    beat.weightSets.some(({ version, state }) => version === 2 && state === 'failed'),
  )
  expect(refused.activeVersion).toBe(1)
  expect(refused.weightSets.find(({ version }) => version === 2)?.error).toMatch(/keeps/)

  const stranger = gateway.addMask(encodeMask(halfMask(1, 'e'.repeat(64))))
  gateway.desired = { active: { version: 3, sha256: stranger }, previous: { version: 1, sha256: good } }
  const foreign = await beatWhere(gateway, (beat) =>
    beat.weightSets.some(({ version, state }) => version === 3 && state === 'failed'),
  )
  expect(foreign.activeVersion).toBe(1)
  expect(foreign.weightSets.find(({ version }) => version === 3)?.error).toMatch(/made for other weights/)
  expect(foreign.weightSets.map(({ version }) => version)).toEqual([0, 1, 3])
  expect(await generate(gateway, node, 'request-after')).toEqual(before)
})

test('restarted while the gateway is away, a node serves the last mask it had and converges when the gateway returns', async () => {
  const { gateway, home, start } = await setup()
  const one = gateway.addMask(encodeMask(halfMask(0)))
  // One that brings its values is swapped and rolled back like any other.
  const two = gateway.addMask(encodeMask(withValues(halfMask(1))))
  gateway.desired = { active: { version: 1, sha256: one }, previous: null }
  const first = await start()
  await beatWhere(gateway, (beat) => beat.activeVersion === 1)
  await first.end('SIGKILL')

  // Masks that nobody asks for any more are removed at the start and after a swap, not the one that is served.
  const masks = join(home, 'masks')
  const addOld = async (name: string) => {
    await writeFile(join(masks, name), '')
    await utimes(join(masks, name), 1_000_000_000, 1_000_000_000)
  }
  await utimes(join(masks, `${one}.safetensors`), 1_000_000_000, 1_000_000_000)
  await addOld(`${'c'.repeat(64)}.safetensors`)

  await gateway.close()
  const second = await start()
  expect(await readdir(masks)).toEqual([`${one}.safetensors`])
  await addOld(`${'d'.repeat(64)}.safetensors`)
  expect((await second.ready()).activeVersion).toBe(1)
  const alone = await generate(gateway, second, 'request-alone')
  expect(alone.mask).toBe('1')
  expect(gateway.receipts.size).toBe(0)

  gateway.desired = { active: { version: 2, sha256: two }, previous: { version: 1, sha256: one } }
  await gateway.open()
  const beat = await beatWhere(gateway, ({ activeVersion }) => activeVersion === 2)
  expect(beat.nodeId).toBe(gateway.beats[0]?.nodeId)
  await vi.waitFor(() => expect(gateway.receipts.has('request-alone')).toBe(true), WAIT)
  expect(gateway.receipts.get('request-alone')?.maskVersion).toBe(1)

  const wanted = [one, two].map((sha256) => `${sha256}.safetensors`).sort()
  await vi.waitFor(async () => expect((await readdir(masks)).sort()).toEqual(wanted), WAIT)

  // A roll-back to the warm mask answers as that mask did.
  gateway.desired = { active: { version: 1, sha256: one }, previous: { version: 2, sha256: two } }
  await beatWhere(gateway, ({ activeVersion }) => activeVersion === 1)
  expect((await generate(gateway, second, 'request-back')).text).toBe(alone.text)
})

test('a node holds a mask on trial beside the active one, answers calls that name it, and lets it go', async () => {
  const { gateway, home, start } = await setup()
  const one = gateway.addMask(encodeMask(halfMask(0)))
  const two = gateway.addMask(encodeMask(withValues(halfMask(1))))
  const active = { version: 1, sha256: one }
  gateway.desired = { active, previous: null, trials: [{ version: 2, sha256: two }] }
  const first = await start()
  const holdsBoth = (beat: Heartbeat) =>
    beat.activeVersion === 1 &&
    beat.weightSets.some(({ version, state }) => version === 2 && state === 'ready')
  await beatWhere(gateway, holdsBoth)
  const serving = await generate(gateway, first, 'request-active')
  const tried = await generate(gateway, first, 'request-tried', 2)
  expect([serving.mask, tried.mask]).toEqual(['1', '2'])
  expect(tried.logprobs).not.toEqual(serving.logprobs)

  // What the active mask answers is scored under the other one, and told until it was heard.
  await generate(gateway, first, 'request-shadowed', undefined, 2)
  const told = await vi.waitFor(() => {
    const [score] = gateway.beats.flatMap(({ shadows = [] }) => shadows)
    if (!score) throw new Error('not scored yet')
    return score
  }, WAIT)
  const { prompt, answer, ...of } = told
  const domain = 'legal'
  expect(of).toEqual({
    requestId: 'request-shadowed',
    model: 'tiny',
    domain,
    maskVersion: 1,
    shadowVersion: 2,
  })
  for (const part of [prompt, answer]) {
    expect(part.tokens).toBeGreaterThan(5)
    expect(part.nllShadow).not.toBe(part.nll)
  }
  await beatWhere(gateway, ({ shadows }) => shadows?.length === 0)
  await first.end('SIGKILL')

  // It comes back with both, from its own files.
  gateway.artifacts.clear()
  gateway.beats.length = 0
  const second = await start()
  await beatWhere(gateway, holdsBoth)
  const again = await generate(gateway, second, 'request-again', 2)
  expect(again.logprobs).toEqual(tried.logprobs)

  gateway.desired = { active, previous: null }
  await beatWhere(gateway, ({ weightSets }) => !weightSets.some(({ version }) => version === 2))
  expect(await readdir(join(home, 'masks'))).toContain(`${one}.safetensors`)
  const after = await generate(gateway, second, 'request-after')
  expect(after.logprobs).toEqual(serving.logprobs)
})

test('killed during a swap, a node serves the new mask when it returns and leaves no half-made files', async () => {
  const { gateway, home, start } = await setup()
  const sha256 = gateway.addMask(encodeMask(halfMask(0)))
  const victim = await start()
  await beatWhere(gateway, (beat) => beat.activeVersion === 0)
  gateway.desired = { active: { version: 1, sha256 }, previous: null }
  await beatWhere(gateway, (beat) =>
    beat.weightSets.some(({ version, state }) => version === 1 && state === 'loading'),
  )
  await victim.end('SIGKILL')
  const reborn = await start()
  expect((await reborn.ready()).activeVersion).toBe(1)
  await beatWhere(
    gateway,
    (beat) => beat.activeVersion === 1 && beat.weightSets.every(({ state }) => state === 'ready'),
  )
  expect((await generate(gateway, reborn, 'request-after')).mask).toBe('1')
  expect(await readdir(join(home, 'work'))).toEqual([])
  expect(await readdir(join(home, 'masks'))).toEqual([`${sha256}.safetensors`])
})

test('a weight set whose process is killed comes back, and the same answer with it', async () => {
  const { gateway, start } = await setup()
  gateway.desired = {
    active: { version: 1, sha256: gateway.addMask(encodeMask(halfMask(0))) },
    previous: null,
  }
  const node = await start()
  await beatWhere(gateway, (beat) => beat.activeVersion === 1)
  const before = await generate(gateway, node, 'request-before')
  for (const pid of weightSetPids(node)) process.kill(pid, 'SIGKILL')
  await beatWhere(gateway, (beat) => beat.weightSets.some(({ state }) => state !== 'ready'))
  await beatWhere(gateway, (beat) => beat.weightSets.every(({ state }) => state === 'ready'))
  expect(await generate(gateway, node, 'request-after')).toEqual(before)
})

test('SIGTERM lets a stream finish, refuses new work, says goodbye and leaves no process', async () => {
  const { gateway, start } = await setup()
  const node = await start()
  await beatWhere(gateway, (beat) => beat.weightSets[0]?.state === 'ready')
  const response = await gateway.callNode(await urlOf(node), 'POST', '/rpc/completions', {
    requestId: 'request-long',
    domain: 'legal',
    sample: false,
    request: {
      model: 'tiny',
      prompt: 'the other party',
      max_tokens: 200,
      temperature: 1,
      seed: 1,
      stream: true,
    },
  })
  const children = descendants(node.pid)
  expect(children.length).toBeGreaterThan(0)
  const ended = node.end('SIGTERM')
  const stream = await response.text()
  expect(stream).toMatch(/data: \[DONE\]\n\n$/)
  expect(await ended).toBe(0)
  expect(gateway.beats.at(-1)?.draining).toBe(true)
  expect(gateway.receipts.get('request-long')?.finishReason).toMatch(/stop|length/)
  await vi.waitFor(() => expect(children.filter((pid) => commandLine(pid) !== '')).toEqual([]), WAIT)
})

test('a node whose supervisor vanishes ends, and its processes with it', async () => {
  const { start } = await setup()
  const node = await start()
  const pids = [node.pid, ...descendants(node.pid)]
  expect(pids.length).toBeGreaterThan(1)
  node.child.disconnect()
  await vi.waitFor(() => expect(pids.filter((pid) => commandLine(pid) !== '')).toEqual([]), WAIT)
  await vi.waitFor(() => expect(node.child.exitCode).toBe(0), WAIT)
})

test('a second node with the home of a running one is refused, naming that one', async () => {
  const { start } = await setup()
  const first = await start()
  await expect(start()).rejects.toThrow(new RegExp(`A node already runs with this home.*pid ${first.pid}`))
  await first.end('SIGKILL')
  await start()
})

test('a port in use is told at once in one line', async () => {
  const { gateway, home } = await setup()
  const taken = createServer().listen(0, '127.0.0.1')
  onTestFinished(() => void taken.close())
  await vi.waitFor(() => expect(taken.listening).toBe(true))
  const address = taken.address()
  if (typeof address !== 'object' || address === null) throw new Error('no address')
  const node = startNodeProcess({
    COPAL_MODEL: shared.tiny.dir,
    COPAL_HOME: home,
    COPAL_CACHE: shared.cacheDir,
    COPAL_NODE_PORT: String(address.port),
    COPAL_GATEWAY_URL: gateway.url,
    COPAL_NODE_SECRET: gateway.secret,
  })
  await expect(node.ready()).rejects.toThrow(/\(1\)/)
  expect(node.messages).toEqual([
    { type: 'failed', message: expect.stringMatching(/^Port \d+ on 127.0.0.1 is in use/) as string },
  ])
})

test('a node without its secret says what is missing', async () => {
  const node = startNodeProcess({})
  await expect(node.ready()).rejects.toThrow(
    /COPAL_NODE_SECRET: the secret shared with the gateway is required/,
  )
  expect(node.child.exitCode).toBe(1)
})
