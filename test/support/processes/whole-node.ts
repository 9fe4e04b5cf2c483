import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, vi } from 'vitest'
import type { Mask } from '@copal/shared/mask/mask-codec.ts'
import type { CalibrateJob, JobReport } from '@copal/shared/wire/adaptation-jobs.ts'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import type { EvaluateEvent } from '@copal/shared/wire/node-calls.ts'
import { BLOCK_LINEARS, linearName, linearShape } from '../../../gpu-node/src/model/config/llama-config.ts'
import { openModel } from '../../../gpu-node/src/model/open-model.ts'
import { startGatewayDouble, type GatewayDouble } from '../doubles/gateway-double.ts'
import { startNodeProcess, type NodeProcess } from './node-process.ts'
import { commandLine, descendants } from './service.ts'
import { temporaryDir } from '../harness/temporary.ts'
import { createTinyLlama, type TinyLlama, type TinyLlamaOptions } from '../models/tiny-llama.ts'
import { WAIT } from '../harness/wait.ts'

export const TEXTS = Array.from(
  { length: 40 },
  (_, index) =>
    `Article ${index}: the other party is to send all of the notes within ${index + 3} days, and no later than that.`,
)

let shared: { tiny: TinyLlama; cacheDir: string; baseSha256: string }

/** Returns the tiny model that the nodes serve. */
export const tinyFiles = () => shared

/** Creates the tiny model for the tests of one file, which may take minutes beside others: they start many processes. */
export function prepareWholeNodes(options: TinyLlamaOptions = {}): void {
  vi.setConfig({ testTimeout: 600_000, hookTimeout: 600_000 })
  beforeAll(async () => {
    const dir = await mkdtemp(join(tmpdir(), 'copal-node-'))
    const tiny = await createTinyLlama(join(dir, 'tiny'), options)
    const cacheDir = join(dir, 'cache')
    const { master } = await openModel(tiny.dir, { cacheDir })
    shared = { tiny, cacheDir, baseSha256: master.baseSha256 }
  })
  afterAll(async () => {
    await rm(dirname(shared.cacheDir), { recursive: true, force: true })
  })
}

export interface WholeNode {
  gateway: GatewayDouble
  home: string
  start: (env?: Record<string, string>) => Promise<NodeProcess>
}

export async function prepareNode(): Promise<WholeNode> {
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
        // ONNX weight sets are processes, which tests can watch and kill.
        COPAL_BACKEND: 'onnx',
        ...env,
      })
      onTestFinished(async () => void (await node.end('SIGKILL')))
      await node.ready()
      return node
    },
  }
}

export async function urlOf(node: NodeProcess): Promise<string> {
  return (await node.ready()).url
}

/**
 * Waits for the first heartbeat for which `holds` is true. A node reports changes at once.
 *
 * @param since how many heartbeats to ignore; default: all but the last one
 */
export function heartbeatWhere(
  gateway: GatewayDouble,
  holds: (beat: Heartbeat) => boolean,
  since = Math.max(0, gateway.heartbeats.length - 1),
): Promise<Heartbeat> {
  return vi.waitFor(() => {
    const beat = gateway.heartbeats.slice(since).find(holds)
    if (!beat) throw new Error(`not yet: ${JSON.stringify(gateway.heartbeats.at(-1))}`)
    return beat
  }, WAIT)
}

export function reportWhere(
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

/** Returns a mask of the tiny model that keeps every second weight, from `first` on. */
export function halfMask(first: 0 | 1, baseSha256 = shared.baseSha256): Mask {
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

/** Returns the same mask as a weights file in which every surviving weight is 1/128. */
export function withValues({ meta, linears }: Mask): Mask {
  const valued = [...linears].map(
    ([name, linear]) =>
      [name, { ...linear, values: new Uint16Array((linear.rows * linear.cols) / 2).fill(0x3c00) }] as const,
  )
  return { meta, linears: new Map(valued) }
}

export function calibrateJob(gateway: GatewayDouble, id: string): CalibrateJob {
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

export async function generate(
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

export function weightSetPids(node: NodeProcess): number[] {
  return descendants(node.pid).filter((pid) => commandLine(pid).includes('worker.ts'))
}

export async function evaluateText(
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
