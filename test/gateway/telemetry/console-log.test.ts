import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { expect, test } from 'vitest'
import { readOtelSettings } from '../../../shared/src/telemetry/otel-settings.ts'
import { captureConsole, type ConsoleLines } from '../../../gateway/src/telemetry/console-log.ts'
import { startNode } from '../support/doubles/node-double.ts'

const TRACE = { trace_id: '0af7651916cd43dd8448eb211c80319c', span_id: 'b7ad6b7169203331' }
const NOWHERE = readOtelSettings({}, { sampler: 'always_on', resource: {} })

/** Creates a console whose lines a test reads. */
function memoryConsole() {
  const written: unknown[][] = []
  const write = (...parts: unknown[]) => void written.push(parts)
  const lines: ConsoleLines = { info: write, warn: write, error: write }
  return { lines, written }
}

test('by default lines are written as they are', () => {
  const { lines, written } = memoryConsole()
  captureConsole(lines, { json: false, otel: NOWHERE })
  lines.warn('a line', TRACE)
  expect(written).toEqual([['a line', TRACE]])
})

test('as JSON a line has its time, level, message, error and the ids of its trace', () => {
  const { lines, written } = memoryConsole()
  captureConsole(lines, { json: true, otel: NOWHERE, nowMs: () => 0 })
  const error = new Error('broken')
  lines.error('GET / failed (request r-1):', TRACE, error)
  expect(written).toHaveLength(1)
  expect(JSON.parse(String(written[0]?.[0]))).toEqual({
    time: '1970-01-01T00:00:00.000Z',
    level: 'error',
    message: 'GET / failed (request r-1):',
    error: error.stack,
    ...TRACE,
  })
})

test('the lines of an event are sent to the collector once its work has ended, with the trace', async () => {
  const collector = await startNode('log-collector', [{ kind: 'answer', body: '{}' }])
  const { lines, written } = memoryConsole()
  const otel = readOtelSettings(
    { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url },
    { sampler: 'always_on', resource: { 'service.name': 'copal-gateway' } },
  )
  const log = captureConsole(lines, { json: false, otel })
  const ctx = createExecutionContext()
  const work = Promise.resolve().then(() => lines.warn('a line', TRACE))
  log.sendAfter(ctx, work)
  // The event lives as long as its work.
  await work
  await waitOnExecutionContext(ctx)
  expect(written).toHaveLength(1)
  const [call] = await collector.calls()
  expect(call?.path).toBe('/v1/logs')
  expect(JSON.parse(call?.body ?? '')).toMatchObject({
    resourceLogs: [
      {
        scopeLogs: [
          {
            logRecords: [
              {
                body: { stringValue: 'a line' },
                severityText: 'WARN',
                traceId: TRACE.trace_id,
                spanId: TRACE.span_id,
              },
            ],
          },
        ],
      },
    ],
  })
  log.sendAfter(ctx, Promise.resolve())
  await waitOnExecutionContext(ctx)
  expect(await collector.calls()).toHaveLength(1)
})
