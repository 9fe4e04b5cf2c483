import { env, exports } from 'cloudflare:workers'
import { createExecutionContext } from 'cloudflare:test'
import { encodeMask } from '@copal/shared/mask/mask-codec.ts'
import type { CreateUpdate, UpdateEntry } from '@copal/shared/wire/admin.ts'
import type {
  DatasetRef,
  EvaluateJob,
  EvaluateResult,
  GenerationCheck,
  Job,
  JobReport,
} from '@copal/shared/wire/adaptation-jobs.ts'
import type { Heartbeat, HeartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import { sha256, signedHeaders } from '@copal/shared/wire/signature.ts'
import { createDeps } from '../../../../gateway/src/deps.ts'
import type { Deps } from '../../../../gateway/src/contracts/bindings.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { findUpdate } from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import { fetchDocumented } from '../requests/documented.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'
import { sendHeartbeat, ORIGIN, signingTime } from '../requests/gateway-requests.ts'
import { TEST_ADMIN_KEY, TEST_NODE_SECRET } from '../setup/secrets.ts'

/** Returns the dependencies of the Worker's own events, with changes. A clock that is ahead makes time pass. */
export function testDeps(changes: Partial<Deps> = {}): Deps {
  return { ...createDeps(env, createExecutionContext()), ...changes }
}

/** Calls the admin API. Sends `body` as JSON unless it is a string. */
export function admin(
  method: string,
  path: string,
  body?: unknown,
  token = TEST_ADMIN_KEY,
): Promise<Response> {
  return fetchDocumented(
    new Request(`${ORIGIN}/admin${path}`, {
      method,
      headers: { authorization: `Bearer ${token}` },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    }),
  )
}

/** Calls the admin API and returns its JSON. Throws on an error status. */
export async function adminJson<T>(method: string, path: string, body?: unknown): Promise<T> {
  const response = await admin(method, path, body)
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`)
  return response.json<T>()
}

/** Sends a call signed by `node-1` with a raw body. */
export async function signedCall(
  method: 'GET' | 'PUT' | 'POST',
  path: string,
  body: Uint8Array<ArrayBuffer> = new Uint8Array(),
  secret?: string,
): Promise<Response> {
  const signed = { nodeId: 'node-1', to: 'gateway', method, path, body } as const
  const signing = await signedHeaders(
    secret ?? (await nodeSecret(TEST_NODE_SECRET, 'node-1')),
    signed,
    signingTime(),
  )
  return exports.default.fetch(
    new Request(ORIGIN + path, {
      method,
      headers: { ...signing, 'content-length': String(body.byteLength) },
      ...(method === 'GET' ? {} : { body }),
    }),
  )
}

/** Imports `count` texts of about 500 characters, of which about a quarter is held out. Other names give other texts. */
export async function importTexts(domain: string, count = 80, name = domain): Promise<void> {
  const texts = Array.from(
    { length: count },
    (_, index) => `${name} text number ${index} ${'words and more '.repeat(32)}`,
  )
  await adminJson('POST', `/domains/${domain}/texts`, { texts })
}

/** Starts a small update. */
export function startUpdate(
  model: string,
  domains: string[],
  changes: Partial<CreateUpdate> = {},
): Promise<UpdateEntry> {
  return adminJson('POST', '/updates', { model, domains, samples: 2, length: 64, ...changes })
}

export function getUpdate(id: string): Promise<UpdateEntry> {
  return adminJson('GET', `/updates/${id}`)
}

/** Returns a valid mask file of a model with one linear. Different seeds give different files. */
export function maskFile(seed: string): Uint8Array<ArrayBuffer> {
  const meta = {
    method: 'continual-wanda',
    pattern: '0.5',
    scope: 'row',
    patterns: {},
    domains: [],
    parent: null,
    created: `2026-01-01T00:00:00.000Z ${seed}`,
    baseSha256: 'a'.repeat(64),
  } as const
  return encodeMask({
    meta,
    linears: new Map([['w', { rows: 2, cols: 8, bits: new Uint8Array([0x0f, 0xf0]) }]]),
  })
}

/** Mean negative log-likelihood that a simulated node finds; null where it is not finite. */
export type Scores = (job: EvaluateJob, domain: string) => number | null

/** Masks in the order in which simulated nodes evaluated them. */
const evaluatedMasks = new Map<string, number>()

/** Dense scores 2; the first mask 2.3, and each later one a little less, so that it passes the gate. */
function improvingScores({ mask }: EvaluateJob): number {
  if (mask === null) return 2
  if (!evaluatedMasks.has(mask)) evaluatedMasks.set(mask, evaluatedMasks.size)
  return 2.3 - 0.001 * (evaluatedMasks.get(mask) ?? 0)
}

/** Deviations of the losses of windows from their mean, the same under every mask, since easy text is easy for all. */
const DEVIATIONS = [0.3, -0.3, 0.1, -0.1]
/** Enough windows of this size for a domain to be judged by itself. */
const WINDOWS = 20
const SCORED_TOKENS = 511

/** Returns the losses of one domain in the result of an evaluation. */
export function evaluationOf(
  { sha256: holdoutSha256, domain }: DatasetRef,
  nllMean: number | null,
): EvaluateResult['domains'][number] {
  const ofWindow = (window: number) =>
    nllMean === null ? null : nllMean + (DEVIATIONS[window % DEVIATIONS.length] ?? 0)
  return {
    domain,
    holdoutSha256,
    tokens: WINDOWS * SCORED_TOKENS,
    nllMean,
    perplexity: nllMean === null || !Number.isFinite(Math.exp(nllMean)) ? null : Math.exp(nllMean),
    windowNll: Array.from({ length: WINDOWS }, (_, window) => ofWindow(window)),
    windowTokens: Array.from({ length: WINDOWS }, () => SCORED_TOKENS),
  }
}

/** Figures of the texts that a simulated node generates under any weights. */
export const SOUND_GENERATION: GenerationCheck = { finite: true, tokens: 192, repetition: 0.2, entropy: 2 }

const database = openDatabase(env.DB)

/** Waits while what started an update collects its texts, for at most a second: heartbeats would do the same beside it. */
async function untilCollected(updateId: string): Promise<void> {
  for (let wait = 0; wait < 20 && (await findUpdate(database, updateId))?.state === 'collecting'; wait += 1)
    await scheduler.wait(50)
}

/** Many: while texts are collected, a turn lasts a third of a second. */
const MAX_TURNS = 400

/** A node as the gateway sees it: heartbeats over the signed HTTP interface, masks uploaded for real. */
export class SimulatedNode {
  readonly #id: string
  readonly #model: string
  readonly #scores: Scores
  activeVersion = 0
  /** The numerics that it measures with; undefined, it names none, like an older node. */
  numerics: string | undefined
  /** Whether it names them in heartbeats too. */
  namesNumerics = false
  /** The jobs of the last heartbeat response. */
  jobs: Job[] = []
  readonly #reports = new Map<string, JobReport>()

  constructor(id: string, model: string, scores: Scores = improvingScores) {
    this.#id = id
    this.#model = model
    this.#scores = scores
  }

  /** Returns the heartbeat that the node would send. */
  heartbeat(changes: Partial<Heartbeat> = {}): Heartbeat {
    const base = heartbeatOf({ id: this.#id, url: 'http://127.0.0.1:9' }, this.#model)
    return {
      ...base,
      model: { ...base.model, contextLength: 64 },
      activeVersion: this.activeVersion,
      weightSets: [{ version: this.activeVersion, state: 'ready', requests: 0 }],
      jobs: [...this.#reports.values()],
      ...(this.namesNumerics && this.numerics !== undefined ? { numerics: this.numerics } : {}),
      ...changes,
    }
  }

  /** Sends a heartbeat and applies the response as a node does: new jobs run, unlisted jobs are dropped. */
  async beat(changes: Partial<Heartbeat> = {}): Promise<HeartbeatResponse> {
    const sent = this.heartbeat(changes)
    const answer = await sendHeartbeat({ id: this.#id, url: sent.url }, this.#model, sent)
    const known = new Set(sent.jobs.map(({ id }) => id))
    this.jobs = answer.jobs.map((job) =>
      known.has(job.id) ? (this.jobs.find(({ id }) => id === job.id) ?? job) : job,
    )
    this.activeVersion = answer.desired.active?.version ?? 0
    const listed = new Set(answer.jobs.map(({ id }) => id))
    for (const { id } of sent.jobs) if (!listed.has(id)) this.#reports.delete(id)
    for (const { id } of answer.jobs) {
      if (!this.#reports.has(id)) this.report({ id, state: 'running', progress: 0, message: 'queued' })
    }
    return answer
  }

  /** Sets the report of a job. */
  report(report: JobReport): void {
    this.#reports.set(report.id, report)
  }

  /** Finishes its jobs. The next heartbeat reports them. */
  async work(): Promise<void> {
    for (const job of this.jobs) this.report(await this.done(job))
  }

  /** Drops all state, like a killed process. */
  restart(): void {
    this.#reports.clear()
    this.jobs = []
  }

  /** Returns the report of a finished job. A calibration uploads its mask first. */
  async done(job: Job): Promise<JobReport> {
    const report = { id: job.id, state: 'done', progress: 1, message: 'done' } as const
    if (job.kind === 'evaluate') {
      const domains = job.holdouts.map((holdout) => evaluationOf(holdout, this.#scores(job, holdout.domain)))
      const generation = job.checkGeneration ? { generation: SOUND_GENERATION } : {}
      const named = this.numerics === undefined ? {} : { numerics: this.numerics }
      return { ...report, result: { kind: 'evaluate', domains, ...generation, ...named } }
    }
    // A node that selects the mask of another one again gives the same file.
    const bytes = maskFile(
      job.id.replace(/-confirm-(\d+)$/, (_, n) => (n === '1' ? '-calibrate' : `-calibrate-${n}`)),
    )
    const maskSha256 = await sha256(bytes)
    const response = await signedCall('PUT', `/internal/masks/${maskSha256}`, bytes)
    if (!response.ok) throw new Error(`the mask was rejected: ${await response.text()}`)
    const tokens = [...job.datasets, ...job.accumulated].map((dataset) => ({
      sha256: dataset.sha256,
      tokens: 100,
    }))
    return {
      ...report,
      result: {
        kind: 'calibrate',
        maskSha256,
        maskBytes: bytes.byteLength,
        sparsity: 0.5,
        churn: job.parent === null ? null : 0.1,
        tokens,
        calibrateMs: 10,
        selectMs: 1,
      },
    }
  }

  /** Sends heartbeats and finishes jobs until the update has ended. */
  async finish(updateId: string): Promise<UpdateEntry> {
    await untilCollected(updateId)
    for (let turn = 0; turn < MAX_TURNS; turn += 1) {
      await this.beat()
      await this.work()
      const update = await findUpdate(database, updateId)
      if (!update || update.finishedAt !== null) return getUpdate(updateId)
      if (update.state === 'collecting') await scheduler.wait(300)
    }
    throw new Error(`update ${updateId} did not end: ${JSON.stringify(await getUpdate(updateId))}`)
  }

  /** Sends heartbeats and finishes jobs until the update is in a state. */
  async reach(updateId: string, state: UpdateEntry['state']): Promise<UpdateEntry> {
    for (let turn = 0; turn < MAX_TURNS; turn += 1) {
      const update = await findUpdate(database, updateId)
      if (update?.state === state) return getUpdate(updateId)
      // Heartbeats wait while another call asks this node, in vain, to describe texts.
      if (update?.state === 'collecting') await scheduler.wait(300)
      await this.work()
      await this.beat()
    }
    throw new Error(`update ${updateId} is never ${state}: ${JSON.stringify(await getUpdate(updateId))}`)
  }
}
