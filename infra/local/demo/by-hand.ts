import { setTimeout as sleep } from 'node:timers/promises'
import { updateEntry, type UpdateEntry } from '@copal/shared/wire/admin.ts'
import { domainEntry } from '@copal/shared/wire/admin-domains.ts'
import type OpenAI from 'openai'
import { UserError } from '../../../gpu-node/src/platform/user-error.ts'
import { counted, formatMask } from '../../../gpu-node/src/platform/quantities.ts'
import { readDrift } from '../../../gpu-node/cli/api/read-drift.ts'
import { describeFailure } from '../../../gpu-node/cli/commands/update.ts'
import { describeDrift } from '../../../gpu-node/cli/commands/drift.ts'
import { followUpdate } from '../../../gpu-node/cli/api/follow-update.ts'
import { listOf } from '../../../gpu-node/cli/api/api-client.ts'
import { describeDecisions } from '../../../gpu-node/cli/output/decision-table.ts'
import { createProgressBar } from '../../../gpu-node/cli/output/progress-bar.ts'
import {
  interrupted,
  print,
  ROOT,
  session,
  SHORT_CANARY,
  SHORT_WATCH,
  withoutLeftUpdates,
  withPolicy,
} from './demo-session.ts'
import { demoClient } from './demo-client.ts'
import { keepStreaming, summariseStreams } from './streams.ts'
import { demoTraffic, type Traffic } from './traffic.ts'

/** A quarter is held out for evaluation; the rest gives a calibration set of 16 × 512 tokens. */
const REQUESTS_PER_DOMAIN = 32
const CONCURRENCY = 4
/** Clients that stream during each update: one until the swap, because serving has priority on two cores. */
const STREAMS = { clients: 4, readingMs: 15_000 }
const AFTER_SWAP_MS = 6_000
/** A mask that ruins the model. */
const BAD_SELECTION = { method: 'magnitude', pattern: '0.95' }
const POLL_MS = 500

/**
 * Shows two domains being learned while clients stream, each by an update that the demo starts, the second one through a
 * canary, and a mask that the gate rejects.
 */
export async function demonstrateByHand(model: string): Promise<void> {
  // An automatic update would come between.
  await withoutLeftUpdates(() => withPolicy({ triggers: { enabled: false } }, () => demonstrate(model)))
}

async function demonstrate(model: string): Promise<void> {
  const client = demoClient()
  const traffic = demoTraffic(ROOT, REQUESTS_PER_DOMAIN).slice(0, 2)
  for (const [index, stream] of traffic.entries()) {
    print(
      `\n${index + 1}. Send requests of the domain '${stream.domain}' (${stream.about}) that may be sampled`,
    )
    await send(client, model, stream)
    await showSamples(stream.domain)
  }
  const [first, second] = traffic
  if (!first || !second) throw new Error('The demo needs the texts of two domains.')
  print(`\n3. Update the mask for '${first.domain}' while clients keep streaming`)
  await withPolicy({ watch: SHORT_WATCH }, () => update(client, model, first))
  print(
    `\n4. The same for '${second.domain}'; its mask answers half of the conversations before it goes live`,
  )
  await withPolicy({ canary: SHORT_CANARY, watch: SHORT_WATCH }, () => update(client, model, second))
  print(
    '\n5. Ask for a mask that ruins the model: 95 % of the weights, by magnitude. The gate must reject it',
  )
  await updateToReject(client, model, second)
  const report = await readDrift(session.client())
  print(`\n${describeDrift(report, session.table)}`)
}

async function send(client: OpenAI, model: string, { domain, prompts }: Traffic): Promise<void> {
  const bar = createProgressBar(process.stderr)
  const queue = [...prompts]
  let done = 0
  const worker = async () => {
    for (let prompt = queue.shift(); prompt !== undefined; prompt = queue.shift()) {
      interrupted.throwIfAborted()
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
        `   ${counted(entry.samples, 'text')} for calibration (${counted(entry.characters, 'character')}), ${entry.holdout_samples} held out for evaluation`,
      )
      return
    }
    before = arrived
    await sleep(2_000, undefined, { signal: interrupted })
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
  print(`   Rejected: ${describeFailure(ended)}`)
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
    ended = await followUpdate(session.client(), created.id, bar, interrupted)
    // Streams that began before the swap end, and others begin after it.
    await sleep(AFTER_SWAP_MS, undefined, { signal: interrupted })
  } finally {
    await streams.stop()
  }
  const { decisions = [] } = await session.client().admin('GET', `/updates/${created.id}`, updateEntry)
  print(`\n${describeDecisions(decisions, session)}\n`)
  print(`   Streams meanwhile: ${summariseStreams(streams.responses())}`)
  return ended
}

/** Waits until the mask is about to go live or the update has ended. */
async function untilSwap(id: string): Promise<void> {
  for (;;) {
    const { state } = await session.client().admin('GET', `/updates/${id}`, updateEntry)
    if (!['collecting', 'calibrating', 'evaluating'].includes(state)) return
    await sleep(POLL_MS, undefined, { signal: interrupted })
  }
}
