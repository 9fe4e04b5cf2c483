import { Hono, type Context } from 'hono'
import type { ActorEnv } from '../../contracts/context.ts'
import { listCacheCounts, type CacheCountsRow } from '../../storage/db/queries/cache-count-queries.ts'
import { listModels, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import {
  ESTIMATED,
  sumDrift,
  sumUsage,
  type DriftSum,
  type UsageSum,
} from '../../storage/db/queries/usage-total-queries.ts'
import type { FleetSnapshot } from '../../contracts/node-view.ts'
import type { RefusalCount } from '../../contracts/fleet-object.ts'
import { tenantOf } from '../../keys/key-grants.ts'
import type { Keyring } from '../../keys/keyring.ts'
import { requireActor } from '../../middleware/auth.ts'
import { refuseMethod } from '../../middleware/errors.ts'
import { formatMetrics, type MetricFamily } from '../../telemetry/exposition.ts'
import { shadowFamilies, trialFamilies } from '../../usage/metrics/trial-metrics.ts'

/**
 * `GET /metrics`, in the Prometheus text format: everything for the admin key as a bearer token, its own tenant's
 * traffic for a key with the scope `read-metrics`.
 */
export function metricsRoutes(keyring: Keyring): Hono<ActorEnv> {
  return new Hono<ActorEnv>()
    .get('/metrics', requireActor(keyring, 'read-metrics'), async (c) => {
      const { deps, actor } = c.var
      const { db, fleet } = deps
      const tenant = tenantOf(actor, undefined)
      if (tenant !== undefined) {
        const [usage, drift, caches, refusals] = await Promise.all([
          sumUsage(db, tenant),
          sumDrift(db, { tenant }),
          listCacheCounts(db, tenant),
          fleet.refusals(),
        ])
        return answer(c, [
          ...usageFamilies(usage),
          refusalFamily(refusals.filter((refusal) => refusal.tenant === tenant)),
          ...driftFamilies(drift),
          ...cacheFamilies(caches),
        ])
      }
      const [usage, drift, caches, models, snapshot, refusals] = await Promise.all([
        sumUsage(db),
        sumDrift(db),
        listCacheCounts(db),
        listModels(db),
        fleet.snapshot(),
        fleet.refusals(),
      ])
      return answer(c, [
        ...usageFamilies(usage),
        refusalFamily(refusals),
        ...driftFamilies(drift),
        ...cacheFamilies(caches),
        ...fleetFamilies(models, snapshot),
        ...(await shadowFamilies(db, models)),
      ])
    })
    .all('/metrics', refuseMethod('GET'))
}

function answer(c: Context<ActorEnv>, families: readonly MetricFamily[]): Response {
  return c.text(formatMetrics(families), 200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' })
}

function usageFamilies(usage: readonly UsageSum[]): MetricFamily[] {
  const labels = ({ tenant, model, domain, maskVersion }: UsageSum) => ({
    ...(tenant === null ? {} : { tenant }),
    model,
    domain,
    mask_version: maskVersion,
  })
  const family = (name: string, help: string, value: (row: UsageSum) => number): MetricFamily => ({
    name,
    help,
    type: 'counter',
    samples: usage
      .filter(({ finishReason }) => finishReason !== ESTIMATED)
      .map((row) => ({ labels: { ...labels(row), outcome: row.finishReason }, value: value(row) })),
  })
  // These fall when a receipt comes after all, as a counter must not.
  const estimate = (name: string, help: string, value: (row: UsageSum) => number): MetricFamily => ({
    name,
    help,
    type: 'gauge',
    samples: usage
      .filter(({ finishReason }) => finishReason === ESTIMATED)
      .map((row) => ({ labels: labels(row), value: value(row) })),
  })
  return [
    family('copal_requests_total', 'Settled requests.', (row) => row.requests),
    family('copal_prompt_tokens_total', 'Prompt tokens of settled requests.', (row) => row.promptTokens),
    family(
      'copal_completion_tokens_total',
      'Generated tokens of settled requests.',
      (row) => row.completionTokens,
    ),
    estimate(
      'copal_requests_estimated',
      'Requests whose lease expired before a receipt came: their node died, or cannot reach the gateway.',
      (row) => row.requests,
    ),
    estimate(
      'copal_tokens_estimated',
      'Tokens that these are charged, of prompts and answers.',
      (row) => row.promptTokens + row.completionTokens,
    ),
  ]
}

function refusalFamily(refusals: readonly RefusalCount[]): MetricFamily {
  return {
    name: 'copal_requests_refused_total',
    help: 'Requests that got no node: over a limit, or for want of one; from zero when the fleet object starts anew.',
    type: 'counter',
    samples: refusals.map(({ requests, ...labels }) => ({ labels, value: requests })),
  }
}

function driftFamilies(drift: readonly DriftSum[]): MetricFamily[] {
  const labels = (row: DriftSum) => ({ model: row.model, domain: row.domain, mask_version: row.maskVersion })
  return [
    {
      name: 'copal_drift_gap_nats',
      help: 'What pruning costs on sampled traffic: masked minus dense negative log-likelihood, nats a token.',
      type: 'gauge',
      samples: drift.map((row) => ({
        labels: labels(row),
        value: (row.nllMasked - row.nllDense) / row.tokens,
      })),
    },
    {
      name: 'copal_drift_tokens_total',
      help: 'Sampled tokens scored under mask and dense.',
      type: 'counter',
      samples: drift.map((row) => ({ labels: labels(row), value: row.tokens })),
    },
  ]
}

function cacheFamilies(caches: readonly CacheCountsRow[]): MetricFamily[] {
  const held = (name: string, help: string, value: (row: CacheCountsRow) => number): MetricFamily => ({
    name,
    help,
    type: 'gauge',
    samples: caches.map((row) => ({ labels: { tenant: row.tenant }, value: value(row) })),
  })
  return [
    {
      name: 'copal_cache_lookups_total',
      help: 'Requests that asked for a kept answer, and whether there was one. Hits are in no other figure.',
      type: 'counter',
      samples: caches.flatMap(({ tenant, hits, misses }) => [
        { labels: { tenant, outcome: 'hit' }, value: hits },
        { labels: { tenant, outcome: 'miss' }, value: misses },
      ]),
    },
    held('copal_cache_answers', 'Answers that are kept.', (row) => row.answers),
    held('copal_cache_bytes', 'Bytes of the answers that are kept.', (row) => row.bytes),
  ]
}

function fleetFamilies(models: readonly ModelRow[], { nodes }: FleetSnapshot): MetricFamily[] {
  const perNode = (
    name: string,
    help: string,
    value: (node: (typeof nodes)[number]) => number,
  ): MetricFamily => ({
    name,
    help,
    type: 'gauge',
    samples: nodes.map((node) => ({ labels: { node: node.id, model: node.model }, value: value(node) })),
  })
  return [
    {
      name: 'copal_model_active_version',
      help: 'The mask version that the fleet shall serve; 0 is dense.',
      type: 'gauge',
      samples: models.map((model) => ({ labels: { model: model.id }, value: model.activeVersion })),
    },
    ...trialFamilies(models),
    {
      name: 'copal_nodes_alive',
      help: 'Nodes heard of lately.',
      type: 'gauge',
      samples: models.map(({ id }) => ({
        labels: { model: id },
        value: nodes.filter((node) => node.alive && node.model === id).length,
      })),
    },
    perNode('copal_node_leases', 'Requests placed on a node and not settled yet.', (node) => node.leases),
    perNode('copal_node_requests_running', 'Requests that a node decodes now.', (node) => node.running),
    perNode('copal_node_requests_waiting', 'Requests that wait on a node.', (node) => node.waiting),
    perNode('copal_node_kv_tokens_used', 'Tokens of key/value cache in use.', (node) => node.kvTokensUsed),
    perNode('copal_node_kv_tokens', 'Tokens of key/value cache there are.', (node) => node.kvTokensTotal),
    perNode(
      'copal_node_active_version',
      'The mask version that new requests start on.',
      (node) => node.activeVersion,
    ),
  ]
}
