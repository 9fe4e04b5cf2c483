import { type UsageSum, ESTIMATED, MOVED } from '../../storage/db/queries/usage-total-queries.ts'
import type { MetricFamily } from '../../telemetry/exposition.ts'
import type { RejectionCount } from '../../contracts/fleet-object.ts'

/** Returns the counts of requests and tokens by tenant, model, domain and mask. */
export function usageFamilies(usage: readonly UsageSum[]): MetricFamily[] {
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
      .filter(({ finishReason }) => finishReason !== ESTIMATED && finishReason !== MOVED)
      .map((row) => ({ labels: { ...labels(row), outcome: row.finishReason }, value: value(row) })),
  })
  // Gauges: an estimate falls when the receipt arrives after all, and a domain may lose what is found to be another's.
  const gauge = (
    name: string,
    help: string,
    reason: UsageSum['finishReason'],
    value: (row: UsageSum) => number,
  ): MetricFamily => ({
    name,
    help,
    type: 'gauge',
    samples: usage
      .filter(({ finishReason }) => finishReason === reason)
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
    gauge(
      'copal_requests_estimated',
      'Requests whose lease expired without a receipt: their node died or cannot reach the gateway.',
      ESTIMATED,
      (row) => row.requests,
    ),
    gauge(
      'copal_tokens_estimated',
      'Tokens charged for requests whose lease expired without a receipt, of prompts and outputs.',
      ESTIMATED,
      (row) => row.promptTokens + row.completionTokens,
    ),
    gauge(
      'copal_requests_moved',
      'Settled requests whose domain was found afterwards: below zero under the domain that they are counted under, above under the one found.',
      MOVED,
      (row) => row.requests,
    ),
    gauge(
      'copal_tokens_moved',
      'Tokens of settled requests whose domain was found afterwards, with the same signs.',
      MOVED,
      (row) => row.promptTokens + row.completionTokens,
    ),
  ]
}

/** Returns the counts of requests that got no node. */
export function rejectionFamily(rejections: readonly RejectionCount[]): MetricFamily {
  return {
    name: 'copal_requests_refused_total',
    help: 'Requests that got no node: over a limit, or none could take them. Starts from zero when the Fleet object restarts.',
    type: 'counter',
    samples: rejections.map(({ requests, ...labels }) => ({ labels, value: requests })),
  }
}
