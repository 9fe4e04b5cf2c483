import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { expect, test } from 'vitest'
import { createDeps } from '../../../../gateway/src/deps.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { findJob } from '../../../../gateway/src/storage/db/queries/job-queries.ts'
import { advanceUpdate } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { cancelUpdate, createUpdate } from '../../../../gateway/src/adaptation/updates/update-requests.ts'
import { importTexts } from '../../support/doubles/simulated-node.ts'
import { newNode } from '../../support/doubles/whole-updates.ts'
import { startNode } from '../../support/doubles/node-double.ts'

interface Span {
  name: string
  traceId: string
  spanId: string
  parentSpanId?: string
  startTimeUnixNano: string
  endTimeUnixNano: string
  attributes: { key: string; value: { stringValue?: string } }[]
}

test('an update is a trace with a span for each step, and its jobs name the span of their step', async () => {
  const collector = await startNode('update-collector', [{ kind: 'answer', body: '{}' }])
  const model = 'traced-update'
  await newNode(model)
  await importTexts(`${model}-a`)
  const ctx = createExecutionContext()
  const deps = createDeps({ ...env, OTEL_EXPORTER_OTLP_ENDPOINT: collector.url }, ctx)
  const { id } = await createUpdate(deps, {
    model,
    domains: [`${model}-a`],
    selection: { scope: 'row' },
    samples: 2,
    length: 64,
    seed: 0,
  })
  // Freezes the texts, and queues the job of the next step.
  await advanceUpdate(deps, id)
  const job = await findJob(openDatabase(env.DB), `${id}-calibrate`)
  await cancelUpdate(deps, id)
  await waitOnExecutionContext(ctx)

  const calls = await collector.calls()
  const spans = calls.flatMap(({ body }) => {
    const { resourceSpans } = JSON.parse(body) as { resourceSpans: { scopeSpans: { spans: Span[] }[] }[] }
    return resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans))
  })
  const root = spans.find(({ name }) => name === 'update')
  const step = spans.find(({ name }) => name === 'calibrating')
  expect(spans.map(({ name }) => name)).toEqual(['collecting', 'calibrating', 'update'])
  if (!root || !step) throw new Error(`unexpected spans: ${JSON.stringify(spans)}`)
  expect(root.parentSpanId ?? '').toBe('')
  expect(new Set(spans.map(({ traceId }) => traceId)).size).toBe(1)
  const steps = spans.filter((span) => span !== root)
  expect(steps.map(({ parentSpanId }) => parentSpanId)).toEqual([root.spanId, root.spanId])
  expect(root.attributes).toContainEqual({
    key: 'copal.update.state',
    value: { stringValue: 'cancelled' },
  })
  expect(step.attributes).toContainEqual({ key: 'copal.update', value: { stringValue: id } })
  expect(BigInt(step.endTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(step.startTimeUnixNano))
  expect(BigInt(root.startTimeUnixNano)).toBeLessThanOrEqual(BigInt(step.startTimeUnixNano))
  expect(job?.payload.traceparent).toBe(`00-${step.traceId}-${step.spanId}-01`)
})
