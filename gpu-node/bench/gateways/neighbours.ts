import { setTimeout as sleep } from 'node:timers/promises'
import { formatSpread, line } from '../measurement/report.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'
import type { Attack, AttackMessage, EndAttack } from './attack.ts'
import { IpcChild } from './child.ts'
import type { GatewayContender } from './contenders.ts'
import { openLoad } from './load.ts'
import { usageOf } from './processes.ts'
import { percentile } from '../measurement/percentile.ts'
import { ratios, turnOf } from './sample.ts'
import { FAULT } from './texts.ts'

/** Requests a second of the good tenant, and its connections. */
const GOOD_PER_SECOND = 40
const GOOD_CONNECTIONS = 32
/** Connections of an attacker whose requests reach a node: twelve schemas at once are from a finding. */
const FEW_CONNECTIONS = 12
/** How long an attack runs before the good tenant is measured, and how long nothing runs after it: a heartbeat. */
const BEGIN_MS = 500
const SETTLE_MS = 2_500
/** Addresses of attacker and good tenant, as Cloudflare tells them. */
const ATTACKER = { 'cf-connecting-ip': '203.0.113.1' }
const GOOD = { 'cf-connecting-ip': '198.51.100.1' }

/** A gateway to attack. */
export interface AttackedGateway {
  gateway: GatewayContender
  /** The error of its nodes for a tenant that has too many schemas waiting. */
  schemaError: string
}

/** Options of {@link compareNeighbours}. */
export interface NeighbourOptions {
  rounds: number
  seconds: number
  connections: number
}

/** The good tenant's response times in one measurement, and what the gateway used meanwhile. */
interface Measurement {
  /** Ascending. */
  wholeMs: readonly number[]
  failed: number
  /** Processor time of the gateway; undefined where there is no `/proc`. */
  processorMs: number | undefined
}

/** The measurements of one attack, and those before each of them, without an attack. */
interface Figures {
  idle: Measurement[]
  attacked: Measurement[]
  statuses: Record<string, number>
}

/**
 * Measures the response time of a tenant that does nothing wrong, at a fixed rate, while another client attacks in one of
 * several ways. Before each attack it is measured without one, in the same processes.
 */
export async function compareNeighbours(
  { gateway, schemaError }: AttackedGateway,
  { rounds, seconds, connections }: NeighbourOptions,
  print: (line: string) => void,
): Promise<void> {
  const good = await gateway.withKey('good', { tenant: 'good' })
  const attacks = await attacksOn(gateway, schemaError, connections)
  const { headers, ...request } = good.request(false)
  const load = openLoad({ ...request, headers: { ...headers, ...GOOD } }, GOOD_CONNECTIONS)
  const figures = new Map(
    attacks.map(({ name }): [string, Figures] => [name, { idle: [], attacked: [], statuses: {} }]),
  )
  const measure = async (): Promise<Measurement> => {
    const before = usageOf(gateway.pids)
    const { wholeMs, failed } = await load.fixedRate(GOOD_PER_SECOND, seconds)
    const after = usageOf(gateway.pids)
    return { wholeMs, failed, processorMs: before && after && after.processorMs - before.processorMs }
  }
  try {
    await load.fixedRate(GOOD_PER_SECOND, seconds)
    for (let round = 0; round < rounds; round += 1) {
      for (const { name, attack } of turnOf(attacks, round)) {
        const own = figures.get(name)
        own?.idle.push(await measure())
        const attacker = await startAttack(attack)
        await sleep(BEGIN_MS)
        own?.attacked.push(await measure())
        for (const [status, count] of Object.entries(await attacker.stop())) {
          if (own) own.statuses[status] = (own.statuses[status] ?? 0) + count
        }
        await sleep(SETTLE_MS)
      }
    }
  } finally {
    await load.close()
  }
  print(`\n${gateway.name}: JSON responses of a good tenant at ${GOOD_PER_SECOND}/s, ms`)
  for (const [name, own] of figures) for (const text of reportOf(name, own, seconds)) print(text)
}

/** Returns lines for people: percentiles by rounds, and their ratio to those without the attack. */
function reportOf(name: string, { idle, attacked, statuses }: Figures, seconds: number): string[] {
  const at = (share: number) => (measured: readonly Measurement[]) =>
    measured.map(({ wholeMs }) => percentile(wholeMs, share))
  const [p50, p95] = [at(0.5), at(0.95)]
  const pooled = (measured: readonly Measurement[]) =>
    percentile(
      measured.flatMap(({ wholeMs }) => wholeMs).toSorted((a, b) => a - b),
      0.95,
    )
  const times = (measured: readonly Measurement[]) =>
    `p50 ${formatSpread(spread(p50(measured)), '')}; p95 ${formatSpread(spread(p95(measured)), '')}`
  const ratio = formatSpread(ratios(p95(attacked), p95(idle)), '', 2)
  const responses = Object.values(statuses).reduce((sum, count) => sum + count, 0)
  const failed = attacked.reduce((sum, one) => sum + one.failed, 0)
  const used = (measured: readonly Measurement[]) =>
    measured.reduce((sum, { processorMs = Number.NaN }) => sum + processorMs, 0)
  const added = used(attacked) - used(idle)
  // The attack begins before the measurement.
  const counted = (responses * seconds) / (seconds + BEGIN_MS / 1_000)
  const share = added / (attacked.length * seconds * 1_000)
  return [
    line(`before: ${name}`, times(idle)),
    line(name, times(attacked)),
    line('', `p95 to that before: ${ratio}by rounds, ${(pooled(attacked) / pooled(idle)).toFixed(2)} of all`),
    line(
      '',
      `the attacker got ${Object.entries(statuses)
        .map(([status, count]) => `${count} × ${status}`)
        .join(', ')}; the gateway used ${(100 * share).toFixed(0)} % of a processor more, ` +
        `${(added / counted).toFixed(2)} ms a response`,
    ),
    ...(failed > 0 ? [line('', `${failed} requests of the good tenant failed`)] : []),
  ]
}

/** Returns the ways to attack. */
async function attacksOn(
  gateway: GatewayContender,
  schemaError: string,
  connections: number,
): Promise<{ name: string; attack: Attack }[]> {
  const bad = await gateway.withKey('bad', { tenant: 'bad' })
  const limited = await gateway.withKey('limited', {
    tenant: 'limited',
    limits: {
      requests_per_minute: 10,
      tokens_per_minute: 1e9,
      tokens_per_month: 1e12,
      concurrent_requests: 1e6,
    },
  })
  const generate = (caller: GatewayContender, fault?: string, from = connections): Attack => {
    const { origin, path, headers, body } = caller.request(false)
    const { messages, ...rest } = JSON.parse(body) as { messages: object[] }
    const faulty = { ...rest, messages: [{ role: 'user', content: `${FAULT}${fault}` }] }
    return {
      origin,
      method: 'POST',
      path,
      headers: { ...headers, ...ATTACKER },
      body: fault === undefined ? JSON.stringify({ ...rest, messages }) : JSON.stringify(faulty),
      connections: from,
    }
  }
  const { body: _, ...list } = generate(bad)
  return [
    { name: 'made-up keys', attack: { ...generate(bad), randomKeys: true } },
    { name: 'a key at its limit', attack: generate(limited) },
    { name: 'lists of models', attack: { ...list, method: 'GET', path: '/v1/models' } },
    { name: 'too many schemas of one tenant', attack: generate(bad, schemaError, FEW_CONNECTIONS) },
    { name: 'requests that make the node fail', attack: generate(bad, 'node_failed', FEW_CONNECTIONS) },
  ]
}

async function startAttack(attack: Attack): Promise<{ stop(): Promise<Record<string, number>> }> {
  const child = new IpcChild<AttackMessage>('attack.ts')
  await child.ask(attack)
  return {
    async stop() {
      const ended = await child.ask({ stop: true } satisfies EndAttack)
      await child.stop()
      return 'statuses' in ended ? ended.statuses : {}
    },
  }
}
