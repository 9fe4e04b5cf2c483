import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import type { AlertsReport, ProbesReport } from '@copal/shared/wire/admin-alerts.ts'
import type { NodeEntry } from '@copal/shared/wire/admin.ts'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { createAlert } from '../../../../../gateway/src/adaptation/drift/alerts/alert-subject.ts'
import { listAlerts, raiseAlerts } from '../../../../../gateway/src/storage/db/queries/alert-queries.ts'
import { endStaleProbeAlerts } from '../../../../../gateway/src/adaptation/drift/probes/end-probe-alerts.ts'
import { MAX_PROBE_AGE_MS } from '../../../../../gateway/src/storage/db/queries/probe-queries.ts'
import { adminJson, SimulatedNode, testDeps } from '../../../support/doubles/simulated-node.ts'
import { stopClock } from '../../../support/doubles/stopped-clock.ts'
import { ready } from '../../../support/doubles/whole-updates.ts'
import { seedMasks, setPolicy } from '../../../support/state/seed-masks.ts'

const TOKENS = 500

/** Nodes that hold m1 of a model, and send scores of the probe texts: means, nats a token. */
async function fleetOf(model: string, count: number) {
  const nodes = Array.from({ length: count }, (_, index) => new SimulatedNode(`${model}-${index + 1}`, model))
  for (const node of nodes) await node.beat()
  await seedMasks(model, [1])
  const beat = (index: number, changes: Partial<Heartbeat>) =>
    nodes[index]?.beat({ activeVersion: 1, ...ready(1), process: 'first', ...changes })
  async function score(index: number, nll: number, changes: Partial<Heartbeat> = {}): Promise<void> {
    // A score is newer than the one before it.
    await new Promise((resolve) => setTimeout(resolve, 5))
    await beat(index, {
      probes: [{ maskVersion: 1, tokens: TOKENS, nll: nll * TOKENS, measuredMsAgo: 0 }],
      ...changes,
    })
  }
  const alerts = async () => (await adminJson<AlertsReport>('GET', `/alerts?model=${model}`)).alerts
  const probes = async () => (await adminJson<ProbesReport>('GET', `/probes?model=${model}`)).probes
  const wrongNodes = async () =>
    (await alerts()).filter((alert) => alert.ended_at === null).map(({ node }) => node)
  return { beat, score, alerts, probes, wrongNodes }
}

const drained = async (model: string) => {
  const { data } = await adminJson<{ data: NodeEntry[] }>('GET', '/nodes')
  return data.filter((node) => node.model === model && node.drained_by_operator).map(({ id }) => id)
}

describe('a node whose score of the probe texts is not that of the others', () => {
  test('alerts in the heartbeat that has the score, and until it matches again', async () => {
    const { score, alerts, probes, wrongNodes } = await fleetOf('wrong', 3)
    for (const index of [0, 1, 2]) await score(index, 3.2)
    expect(await wrongNodes()).toEqual([])
    await score(1, 3.9)
    expect(await alerts()).toMatchObject([
      { kind: 'probe_mismatch', node: 'wrong-2', mask_version: 1, domain: null, ended_at: null },
    ])
    expect((await alerts())[0]?.message).toBe(
      "Node 'wrong-2' scores the probe texts at 3.900 nats a token under mask 1, and the nodes with this mask agree on " +
        "3.200. Its weights may be damaged: drain it ('npx copal drain wrong-2') and restart it.",
    )
    expect(
      (await probes()).map(({ node, nll, expected, matches }) => [node, nll, expected, matches]),
    ).toEqual([
      ['wrong-1', 3.2, 3.2, true],
      ['wrong-2', 3.9, 3.2, false],
      ['wrong-3', 3.2, 3.2, true],
    ])
    await score(1, 3.9)
    expect(await alerts()).toHaveLength(1)
    expect(await drained('wrong')).toEqual([])
    await score(1, 3.2, { process: 'restarted' })
    expect(await wrongNodes()).toEqual([])
  })

  test('is drained if the policy says so, but never the last one that serves', async () => {
    const { score, wrongNodes } = await fleetOf('drains', 2)
    await setPolicy('drains', { probes: { on_mismatch: 'drain' } })
    await score(0, 3.2)
    await score(0, 3.3)
    // It is alone, so that it serves on; the other one's first score is the better one.
    expect([await wrongNodes(), await drained('drains')]).toEqual([['drains-1'], []])
    await score(0, 3.2)
    await score(1, 3.2)
    await score(1, 4)
    expect([await wrongNodes(), await drained('drains')]).toEqual([['drains-2'], ['drains-2']])
    const row = await env.DB.prepare(
      "select actor, reason from audit_pending where action = 'node.drained'",
    ).first()
    expect(row).toMatchObject({
      actor: 'copal',
      reason: expect.stringContaining("Node 'drains-2'") as string,
    })
  })

  test('is drained by the agreement of two others, not by the word of one', async () => {
    const { score, wrongNodes } = await fleetOf('word', 3)
    await setPolicy('word', { probes: { on_mismatch: 'drain' } })
    await score(0, 3.2)
    await score(1, 2)
    // Of two, the better score is expected: an invented one, too.
    expect([await wrongNodes(), await drained('word')]).toEqual([['word-1'], []])
    await score(2, 3.2)
    expect([await wrongNodes(), await drained('word')]).toEqual([['word-2'], ['word-2']])
  })

  test('that is gone no longer alerts after an hour', async () => {
    const { score, wrongNodes } = await fleetOf('gone', 1)
    await score(0, 3.2)
    await score(0, 3.4)
    await endStaleProbeAlerts(testDeps())
    expect(await wrongNodes()).toEqual(['gone-1'])
    await endStaleProbeAlerts(testDeps({ nowMs: () => Date.now() + MAX_PROBE_AGE_MS + 1 }))
    expect(await wrongNodes()).toEqual([])
  })
})

test('a score that a node repeats in its heartbeats is stored once, and an old one is not stored', async () => {
  const goOn = stopClock()
  const { beat, probes } = await fleetOf('repeats', 1)
  const score = { maskVersion: 1, tokens: TOKENS, nll: 3.2 * TOKENS }
  await beat(0, { probes: [{ ...score, measuredMsAgo: 200 }] })
  const [first] = await probes()
  goOn(2_000)
  // This heartbeat was half a second faster.
  await beat(0, { probes: [{ ...score, measuredMsAgo: 1_700 }] })
  await beat(0, { probes: [{ ...score, nll: 9, measuredMsAgo: 60_000 }] })
  expect(await probes()).toEqual([first])
})

test('a score under a mask that the model does not have is not stored', async () => {
  const { beat, probes } = await fleetOf('invents', 1)
  const score = { tokens: TOKENS, nll: 3.2 * TOKENS, measuredMsAgo: 0 }
  await beat(0, { probes: [0, 1, 2].map((maskVersion) => ({ ...score, maskVersion })) })
  expect((await probes()).map(({ mask_version }) => mask_version)).toEqual([0, 1])
})

test('an alert ends also where many newer alerts of domains hold', async () => {
  const { score, wrongNodes } = await fleetOf('many', 1)
  await score(0, 3.2)
  await score(0, 3.4)
  expect(await wrongNodes()).toEqual(['many-1'])
  const newer = Array.from({ length: 200 }, (_, index) =>
    createAlert(
      { kind: 'input_drift', model: 'many', domain: `d${index}`, message: '', reference: 1, level: 2 },
      Date.now() + 1_000,
    ),
  )
  await raiseAlerts(testDeps().db, newer)
  await score(0, 3.2)
  expect((await listAlerts(testDeps().db, { kind: 'probe_mismatch', active: true })).length).toBe(0)
})
