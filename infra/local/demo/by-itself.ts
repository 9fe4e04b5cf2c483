import { setTimeout as sleep } from 'node:timers/promises'
import type { DriftReport } from '@copal/shared/wire/admin.ts'
import type { CreatedKey } from '@copal/shared/wire/admin-keys.ts'
import type { PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import type OpenAI from 'openai'
import { formatMask, formatPerplexity } from '../../../gpu-node/src/platform/quantities.ts'
import { readDrift } from '../../../gpu-node/cli/api/read-drift.ts'
import { describeDrift } from '../../../gpu-node/cli/commands/drift.ts'
import { createProgressBar } from '../../../gpu-node/cli/output/progress-bar.ts'
import { domainNames, followAdaptation } from './adaptation-events.ts'
import {
  interrupted,
  print,
  ROOT,
  session,
  SHORT_CANARY,
  SHORT_WATCH,
  withKeys,
  withoutLeftUpdates,
  withPolicy,
} from './demo-session.ts'
import { demoClient } from './demo-client.ts'
import { keepStreaming, summariseStreams } from './streams.ts'
import { demoTraffic, folderTraffic, type Traffic } from './traffic.ts'

const KEYS = 4
/** Each request has about 300 tokens; a quarter is held out. */
const REQUESTS_PER_KIND = 48
const CONCURRENCY = 4
/** One client, which leaves the node time for the update; the others stream when a mask is about to go live. */
const STREAMS = { clients: 1, readingMs: 4_000 }
/** Less patience than a deployment has, and less text: half a calibration set is enough, and two dozen texts are a domain. */
const IMPATIENT = {
  canary: SHORT_CANARY,
  watch: SHORT_WATCH,
  triggers: { enabled: true, cooldown_minutes: 0, new_segments: 12, max_per_day: 100 },
  discovery: { enabled: true, accept_texts: 24 },
  // Of a deployment the requests take precedence; here somebody waits for the update.
  effort: { node_share: 1 },
} satisfies PolicyOverrides

/**
 * Sends texts of several kinds with several keys, none of which names a domain, and prints what the service does about it by
 * itself until every domain that it finds is served by a mask that knows it.
 *
 * @param folder texts `NAME.calibration.txt` to send; by default those of the checkout
 */
export async function demonstrateByItself(model: string, folder: string | undefined): Promise<void> {
  const traffic =
    folder === undefined
      ? demoTraffic(ROOT, REQUESTS_PER_KIND)
      : folderTraffic(folder, REQUESTS_PER_KIND, session.terminal.cwd)
  const before = await readDrift(session.client())
  const known = await domainNames()
  const work = (keys: readonly CreatedKey[]) =>
    withPolicy(IMPATIENT, async () => {
      print('\nThis takes 5 to 10 minutes on a machine that does little else.')
      print(
        `\n1. ${KEYS} keys send ${traffic.length} kinds of text, and name no domain: ` +
          traffic.map(({ about }) => about).join(', '),
      )
      const clients = keys.map(({ key }) => demoClient(key))
      await send(clients, model, traffic)
      print('\n2. From here on the service works by itself, and clients keep streaming')
      const [client] = clients
      const prompts = traffic.flatMap((kind) => kind.prompts.slice(0, 4))
      const streams = keepStreaming(client!, { model, prompts }, STREAMS)
      try {
        await followAdaptation(known)
      } finally {
        await streams.stop()
      }
      print(`\n   Streams meanwhile: ${summariseStreams(streams.responses())}`)
    })
  await withoutLeftUpdates(() => withKeys(KEYS, work))
  const report = await readDrift(session.client())
  print(`\n3. What it learned\n\n${describeDrift(report, session.table)}`)
  print(`\n${describeGains(report, before)}`)
}

/** Sends every text once, the kinds mixed, each with the next key. */
async function send(clients: readonly OpenAI[], model: string, traffic: readonly Traffic[]): Promise<void> {
  const bar = createProgressBar(process.stderr)
  const longest = Math.max(...traffic.map(({ prompts }) => prompts.length))
  const mixed = Array.from({ length: longest }, (_, at) =>
    traffic.flatMap(({ prompts }) => prompts[at] ?? []),
  )
  const queue = mixed.flat().map((prompt, index) => ({ prompt, client: clients[index % clients.length] }))
  const total = queue.length
  let done = 0
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      interrupted.throwIfAborted()
      const { prompt, client } = next
      await client?.completions.create({ model, prompt, max_tokens: 4, temperature: 0 })
      done += 1
      bar.update('Requests', done / total, `${done} of ${total}`)
      await sleep(0)
    }
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, worker))
  bar.end()
}

/** Describes the perplexity of each domain under the mask from before, the active one, and dense. */
function describeGains(report: DriftReport, before: DriftReport): string {
  const { domains, stages, perplexity } = report.r
  const cell = (version: number, domain: number) =>
    perplexity[stages.findIndex(({ mask_version }) => mask_version === version)]?.[domain] ?? undefined
  const show = (value: number | undefined) => (value === undefined ? '-' : formatPerplexity(value))
  const first = before.active_version
  const now = report.active_version
  const rows = domains.map((domain, at) => ({
    domain: before.r.domains.includes(domain) ? domain : `${domain} (new)`,
    dense: cell(0, at),
    first: cell(first, at),
    now: cell(now, at),
  }))
  return session.table(
    [
      { title: 'HELD-OUT PERPLEXITY', value: (row) => row.domain, shrinks: true },
      { title: 'DENSE', value: (row) => show(row.dense), align: 'right' },
      { title: formatMask(first).toUpperCase(), value: (row) => show(row.first), align: 'right' },
      { title: formatMask(now).toUpperCase(), value: (row) => show(row.now), align: 'right' },
      {
        title: 'CHANGE',
        align: 'right',
        value: (row) =>
          row.first === undefined || row.now === undefined
            ? '-'
            : `${((row.now / row.first - 1) * 100).toFixed(1)} %`,
      },
    ],
    rows,
  )
}
