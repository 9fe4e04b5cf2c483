import { setTimeout as sleep } from 'node:timers/promises'
import { formatSpread, line } from '../measurement/report.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'
import type { Attack, AttackMessage, EndAttack } from './attack.ts'
import { IpcChild } from './child.ts'
import type { GatewayContender } from './contenders.ts'
import { openLoad } from './load.ts'
import { percentile, ratios, turnOf } from './sample.ts'
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

interface Figures {
  p50: number[]
  p95: number[]
  failed: number
  attacked: Record<string, number>
}

/**
 * Measures the response time of a tenant that does nothing wrong, at a fixed rate, while another client attacks in one of
 * several ways, and without an attack. The attacks take turns.
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
    attacks.map(({ name }): [string, Figures] => [name, { p50: [], p95: [], failed: 0, attacked: {} }]),
  )
  try {
    await load.fixedRate(GOOD_PER_SECOND, seconds)
    for (let round = 0; round < rounds; round += 1) {
      for (const { name, attack } of turnOf(attacks, round)) {
        const own = figures.get(name)
        const attacker = attack && (await startAttack(attack))
        await sleep(BEGIN_MS)
        const { wholeMs, failed } = await load.fixedRate(GOOD_PER_SECOND, seconds)
        const attacked = (await attacker?.stop()) ?? {}
        if (!own) continue
        own.p50.push(percentile(wholeMs, 0.5))
        own.p95.push(percentile(wholeMs, 0.95))
        own.failed += failed
        for (const [status, count] of Object.entries(attacked))
          own.attacked[status] = (own.attacked[status] ?? 0) + count
        await sleep(SETTLE_MS)
      }
    }
  } finally {
    await load.close()
  }
  print(`\n${gateway.name}: JSON responses of a good tenant at ${GOOD_PER_SECOND}/s, ms`)
  const idle = figures.get(attacks[0]?.name ?? '')
  for (const [name, { p50, p95, failed, attacked }] of figures) {
    const ratio = formatSpread(ratios(p95, idle?.p95 ?? []), '× idle', 2)
    const statuses = Object.entries(attacked)
      .map(([status, count]) => `${count} × ${status}`)
      .join(', ')
    print(
      line(name, `p50 ${formatSpread(spread(p50), '')}; p95 ${formatSpread(spread(p95), '')}; p95 ${ratio}`),
    )
    if (failed > 0) print(line('', `${failed} of its requests failed`))
    if (statuses) print(line('', `the attacker got ${statuses}`))
  }
}

/** Returns the ways to attack; the first is none. */
async function attacksOn(
  gateway: GatewayContender,
  schemaError: string,
  connections: number,
): Promise<{ name: string; attack?: Attack }[]> {
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
    { name: 'no attack' },
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
