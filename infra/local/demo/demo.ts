/**
 * `npm run demo`: shows two domains being learned while clients stream, the second one through a canary, and a mask that
 * the gate rejects, on the running service or on one that it starts.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  domainEntry,
  driftReport,
  statusReport,
  updateEntry,
  type UpdateEntry,
} from '@copal/shared/wire/admin.ts'
import { policyReport, type PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import OpenAI from 'openai'
import { UserError, toUserError } from '../../../gpu-node/src/platform/user-error.ts'
import { describeDrift } from '../../../gpu-node/cli/commands/drift.ts'
import { followUpdate } from '../../../gpu-node/cli/api/follow-update.ts'
import { readConnection } from '../../../gpu-node/cli/api/connection.ts'
import { listOf } from '../../../gpu-node/cli/api/api-client.ts'
import { describeDecisions } from '../../../gpu-node/cli/output/decision-table.ts'
import { createProgressBar, type ProgressBar } from '../../../gpu-node/cli/output/progress-bar.ts'
import { formatMask } from '../../../gpu-node/src/platform/quantities.ts'
import { createSession } from '../../../gpu-node/cli/api/session.ts'
import { keepStreaming, type StreamedResponse } from './streams.ts'
import { demoTraffic, type Traffic } from './traffic.ts'

const ROOT = join(import.meta.dirname, '..', '..', '..')
/** A quarter is held out for evaluation; the rest gives a calibration set of 16 × 512 tokens. */
const REQUESTS_PER_DOMAIN = 32
const CONCURRENCY = 4
/** Clients that stream during each update: one until the swap, because serving has priority on two cores. */
const STREAMS = { clients: 4, readingMs: 15_000 }
const AFTER_SWAP_MS = 6_000
/** A canary that a person has the patience to watch: of a deployment it takes at least ten minutes. */
const SHORT_CANARY = {
  enabled: true,
  share: 0.5,
  shadow_share: 1,
  min_minutes: 0.5,
  max_minutes: 1.5,
  min_scored_tokens: 2_000,
}
/** A canary begins when the watch over the mask before it has ended; a deployment watches for an hour. */
const SHORT_WATCH = { soak_minutes: 0.5 }
/** The demo starts the updates itself, and an automatic one would come between. */
const BY_HAND = { triggers: { enabled: false } }
/** A mask that ruins the model. */
const BAD_SELECTION = { method: 'magnitude', pattern: '0.95' }
const POLL_MS = 500

const SILENT: ProgressBar = { update: () => undefined, end: () => undefined }

const interruption = new AbortController()
process.once('SIGINT', () => interruption.abort())
process.once('SIGTERM', () => interruption.abort())

const session = createSession({
  env: process.env,
  cwd: process.cwd(),
  root: ROOT,
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  signal: interruption.signal,
})

let service: ChildProcess | undefined
try {
  service = (await isServing()) ? undefined : await startService()
  await withPolicy(BY_HAND, demonstrate)
} catch (error) {
  const userError = toUserError(error, process.cwd())
  if (!userError) throw error
  process.stderr.write(`copal: ${userError.message}\n`)
  process.exitCode = 1
} finally {
  if (service && service.exitCode === null) {
    print(
      'Stopping the service that the demo started. Its masks and domains are kept; npm start serves them.',
    )
    service.kill('SIGTERM')
    await once(service, 'exit')
  }
}

async function demonstrate(): Promise<void> {
  const started = Date.now()
  const admin = session.client()
  await waitForUpdates()
  const [served] = (await admin.admin('GET', '/status', statusReport)).models
  if (!served) throw new UserError('no_model', 'No node serves a model. See .copal/node.log.')
  const connection = readConnection(session.terminal)
  const client = new OpenAI({
    baseURL: `${connection.origin}/v1`,
    apiKey: connection.apiKey ?? '',
    maxRetries: 2,
  })
  print(`\n${served.id} serves ${formatMask(served.active_version)}.`)

  const traffic = demoTraffic(ROOT, REQUESTS_PER_DOMAIN)
  for (const [index, stream] of traffic.entries()) {
    print(
      `\n${index + 1}. Send requests of the domain '${stream.domain}' (${stream.about}) that may be sampled`,
    )
    await send(client, served.id, stream)
    await showSamples(stream.domain)
  }
  const [first, second] = traffic
  print(`\n3. Update the mask for '${first.domain}' while clients keep streaming`)
  await withPolicy({ watch: SHORT_WATCH }, () => update(client, served.id, first))
  print(
    `\n4. The same for '${second.domain}'; its mask answers half of the conversations before it goes live`,
  )
  await withPolicy({ canary: SHORT_CANARY, watch: SHORT_WATCH }, () => update(client, served.id, second))
  print(
    '\n5. Ask for a mask that ruins the model: 95 % of the weights, by magnitude. The gate must reject it',
  )
  await updateToReject(client, served.id, second)
  const report = await admin.admin('GET', '/drift', driftReport)
  print(`\n${describeDrift(report, session.table)}`)
  print(`\nThe demo took ${((Date.now() - started) / 60_000).toFixed(1)} minutes.`)
}

async function send(client: OpenAI, model: string, { domain, prompts }: Traffic): Promise<void> {
  const bar = createProgressBar(process.stderr)
  const queue = [...prompts]
  let done = 0
  const worker = async () => {
    for (let prompt = queue.shift(); prompt !== undefined; prompt = queue.shift()) {
      interruption.signal.throwIfAborted()
      await client.completions.create(
        { model, prompt, max_tokens: 8, temperature: 0 },
        { headers: { 'x-copal-domain': domain, 'x-copal-sample': 'true' } },
      )
      done += 1
      bar.update(`Requests to '${domain}'`, done / prompts.length, `${done} of ${prompts.length}`)
    }
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, worker))
  bar.end()
}

/**
 * Waits for the samples, which travel through a queue and arrive a little after the responses, and prints their number.
 */
async function showSamples(domain: string): Promise<void> {
  let before = -1
  for (;;) {
    const { data } = await session.client().admin('GET', '/domains', listOf(domainEntry))
    const entry = data.find(({ name }) => name === domain)
    const arrived = (entry?.samples ?? 0) + (entry?.holdout_samples ?? 0)
    if (entry && arrived > 0 && arrived === before) {
      print(
        `   ${entry.samples} texts for calibration (${entry.characters} characters), ${entry.holdout_samples} held out for evaluation`,
      )
      return
    }
    before = arrived
    await sleep(2_000, undefined, { signal: interruption.signal })
  }
}

/** Updates the mask for a domain; fails if it does not go live. */
async function update(client: OpenAI, model: string, traffic: Traffic): Promise<void> {
  const ended = await followStreaming(client, model, traffic, {})
  if (ended.state !== 'promoted')
    throw new UserError(
      ended.state,
      `The update ended with state ${ended.state}: ${ended.error?.message ?? ''}`,
    )
  print(`   ${formatMask(ended.mask_version ?? 0)} is live.`)
}

/** Starts an update with a bad selection; fails if it goes live. */
async function updateToReject(client: OpenAI, model: string, traffic: Traffic): Promise<void> {
  const ended = await followStreaming(client, model, traffic, { selection: BAD_SELECTION })
  if (ended.state !== 'failed' || ended.error?.code !== 'gate_failed')
    throw new UserError(
      ended.state,
      `The gate should have rejected the mask, but the update is ${ended.state}.`,
    )
  print(`   Rejected: ${ended.error.message}`)
}

/** Runs an update to its end while clients stream, and prints what was decided and what the streams saw. */
async function followStreaming(
  client: OpenAI,
  model: string,
  { domain, prompts }: Traffic,
  options: { selection?: typeof BAD_SELECTION },
): Promise<UpdateEntry> {
  const streams = keepStreaming(client, { model, domain, prompts }, STREAMS)
  const bar = createProgressBar(process.stderr)
  const created = await session.client().admin('POST', '/updates', updateEntry, {
    domains: [domain],
    ...options,
  })
  let ended: UpdateEntry
  try {
    untilSwap(created.id)
      .then(() => streams.speedUp())
      .catch(() => undefined)
    ended = await followUpdate(session.client(), created.id, bar, interruption.signal)
    // Streams that began before the swap end, and others begin after it.
    await sleep(AFTER_SWAP_MS, undefined, { signal: interruption.signal })
  } finally {
    await streams.stop()
  }
  const { decisions = [] } = await session.client().admin('GET', `/updates/${created.id}`, updateEntry)
  print(`\n${describeDecisions(decisions, session)}\n`)
  print(`   Streams meanwhile: ${summarise(streams.responses())}`)
  return ended
}

/** Runs `work` under a changed policy, and sets the former one again. */
async function withPolicy(changes: PolicyOverrides, work: () => Promise<void>): Promise<void> {
  const admin = session.client()
  const { overrides } = await admin.admin('GET', '/policy', policyReport)
  await admin.admin('PUT', '/policy', policyReport, { ...overrides, ...changes })
  try {
    await work()
  } finally {
    await admin.admin('PUT', '/policy', policyReport, overrides)
  }
}

/** Waits until the mask is about to go live or the update has ended. */
async function untilSwap(id: string): Promise<void> {
  for (;;) {
    const { state } = await session.client().admin('GET', `/updates/${id}`, updateEntry)
    if (!['collecting', 'calibrating', 'evaluating'].includes(state)) return
    await sleep(POLL_MS, undefined, { signal: interruption.signal })
  }
}

function summarise(streamed: readonly StreamedResponse[]): string {
  const perMask = new Map<string, number>()
  for (const { fingerprints } of streamed) {
    for (const name of fingerprints) perMask.set(name, (perMask.get(name) ?? 0) + 1)
  }
  const masks = [...perMask]
    .toSorted(([a], [b]) => a.localeCompare(b))
    .map(([name, count]) => `${count} from ${name.replace(/^.*-/, '')}`)
  const failed = streamed.filter(({ error }) => error !== undefined)
  const mixed = streamed.filter(({ fingerprints }) => fingerprints.length > 1).length
  const first = failed[0]?.error
  return `${streamed.length} finished, ${failed.length} failed${first ? ` (${first})` : ''}, ${mixed} mixed two masks; ${masks.join(', ')}`
}

/** Waits for running updates, and at a first start for the first one. */
async function waitForUpdates(): Promise<void> {
  for (;;) {
    const { data } = await session.client().admin('GET', '/updates', listOf(updateEntry))
    const running = data.find(({ finished_at }) => finished_at === null)
    if (running) {
      // A service that the demo started shows its first update itself.
      const bar = service ? SILENT : createProgressBar(process.stderr)
      await followUpdate(session.client(), running.id, bar, interruption.signal)
    } else if (data.length > 0 || process.env.COPAL_FIRST_UPDATE === 'off') {
      return
    } else {
      // At the very first start the update begins when the texts have arrived.
      await sleep(500, undefined, { signal: interruption.signal })
    }
  }
}

async function isServing(): Promise<boolean> {
  try {
    const status = await session.client().admin('GET', '/status', statusReport)
    return status.nodes.some(({ alive }) => alive)
  } catch (error) {
    if (error instanceof UserError) return false
    throw error
  }
}

async function startService(): Promise<ChildProcess> {
  print('No service is running. Starting one (npm start) …')
  const child = spawn(process.execPath, [join(ROOT, 'infra', 'local', 'bootstrap.mjs'), 'start'], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  while (!(await isServing())) {
    if (child.exitCode !== null)
      throw new UserError('start_failed', 'The service did not start. The reason is printed above.')
    await sleep(500, undefined, { signal: interruption.signal })
  }
  return child
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}
