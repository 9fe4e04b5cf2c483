import { once } from 'node:events'
import { connect } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { AppError, errorBody } from '@copal/shared/errors.ts'
import { arrayAsWritten, LongObject } from '../../../../../gpu-node/src/serving/server/formats/as-written.ts'
import { occupyMs } from '../../../../support/harness/occupy.ts'
import { listen } from '../../../../../gpu-node/src/platform/listener.ts'
import {
  EVENT_STREAM,
  eventStream,
} from '../../../../../gpu-node/src/serving/server/generation/event-stream.ts'

const format = { namesEvents: false, error: errorBody }
const OPTIONS = { format, keepAliveMs: 60_000, onCancel: () => undefined, onError: () => undefined }

/** Texts that line-based readers handle badly, and one larger than any buffer between node and client. */
const TEXTS = ['plain', 'two\n\nlines\r\n', 'data: [DONE]\n\n', '\u2028🐳', 'x'.repeat(300_000), '']

async function* textsThen(end: () => void | Promise<void>): AsyncGenerator<object, void, undefined> {
  for (const text of TEXTS) yield { text }
  await end()
}

async function writesOf(stream: ReadableStream<Uint8Array>): Promise<string[]> {
  const writes: string[] = []
  for await (const bytes of stream) writes.push(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  return writes
}

const WHOLE_EVENT = /^(: keep-alive|data: [^\r\n]+)\n\n$/
const EVENTS = TEXTS.map((text) => `data: ${JSON.stringify({ text })}\n\n`)

test('every write is one complete event, also the end', async () => {
  const writes = await writesOf(
    eventStream(
      textsThen(() => undefined),
      OPTIONS,
    ),
  )
  expect(writes).toEqual([...EVENTS, 'data: [DONE]\n\n'])
  for (const write of writes) expect(write).toMatch(WHOLE_EVENT)
})

test('a long object is one event, written while the event loop goes on', async () => {
  const numbers = Array.from({ length: 2000 }, (_, index) => index)
  let turns = 0
  const turnsSeen = new Set<number>()
  async function* objects() {
    yield new LongObject({
      type: 'long',
      numbers: arrayAsWritten(numbers.length, (from, to) => {
        occupyMs(2)
        turnsSeen.add(turns)
        return numbers.slice(from, to)
      }),
    })
  }
  const named = { ...OPTIONS, format: { ...format, namesEvents: true } }
  const timer = setInterval(() => (turns += 1), 0)
  const writes = await writesOf(eventStream(objects(), named))
  clearInterval(timer)
  expect(writes).toEqual([`event: long\ndata: ${JSON.stringify({ type: 'long', numbers })}\n\n`])
  expect(turnsSeen.size).toBeGreaterThan(5)
})

test('a stream that breaks ends with its error as one complete event', async () => {
  const broken = () => Promise.reject(new AppError('node_failed', 'It broke\n\nin two lines.'))
  const writes = await writesOf(eventStream(textsThen(broken), OPTIONS))
  expect(writes.slice(0, -1)).toEqual(EVENTS)
  expect(writes.at(-1)).toMatch(WHOLE_EVENT)
  expect(JSON.parse(writes.at(-1)?.slice('data: '.length) ?? '')).toMatchObject({
    error: { code: 'node_failed' },
  })
})

test('a client that leaves while an event is written breaks no stream', async () => {
  const LENGTH = 2000
  const broken: unknown[] = []
  const begun = Promise.withResolvers<void>()
  const written = Promise.withResolvers<void>()
  async function* objects() {
    yield new LongObject({
      numbers: arrayAsWritten(LENGTH, (from, to) => {
        occupyMs(2)
        begun.resolve()
        if (to === LENGTH) written.resolve()
        return Array.from({ length: to - from }, () => 0)
      }),
    })
  }
  const stream = eventStream(objects(), { ...OPTIONS, onError: (thrown) => broken.push(thrown) })
  await begun.promise
  await stream.cancel()
  await written.promise
  // Until the written event is sent.
  for (let turn = 0; turn < 3; turn++) await nextTurn()
  expect(broken).toEqual([])
})

test('a stream that ends well is captured without its keep-alives; one that breaks, is cancelled or is too large is not', async () => {
  const taken: string[] = []
  const capturing = (maxBytes: number) => ({
    ...OPTIONS,
    capture: { maxBytes, onComplete: (events: string) => taken.push(events) },
  })
  const slow = () => new Promise<void>((resolve) => setTimeout(resolve, 60))
  const writes = await writesOf(eventStream(textsThen(slow), { ...capturing(1e6), keepAliveMs: 10 }))
  expect(writes.length).toBeGreaterThan(EVENTS.length + 1)
  expect(taken.splice(0)).toEqual([[...EVENTS, 'data: [DONE]\n\n'].join('')])
  const broken = () => Promise.reject(new AppError('node_failed', 'It broke.'))
  await writesOf(eventStream(textsThen(broken), capturing(1e6)))
  await writesOf(
    eventStream(
      textsThen(() => undefined),
      capturing(100_000),
    ),
  )
  const left = eventStream(
    textsThen(() => undefined),
    capturing(1e6),
  ).getReader()
  await left.read()
  await left.cancel()
  expect(taken).toEqual([])
})

test('keep-alives are sent between events, never within one', async () => {
  let goOn = () => undefined as void
  const paused = new Promise<void>((resolve) => (goOn = resolve))
  const stream = eventStream(
    textsThen(() => paused),
    { ...OPTIONS, keepAliveMs: 5 },
  )
  const writes: string[] = []
  for await (const bytes of stream) {
    writes.push(new TextDecoder().decode(bytes))
    if (writes.filter((write) => write.startsWith(':')).length === 3) goOn()
  }
  for (const write of writes) expect(write).toMatch(WHOLE_EVENT)
  expect(writes.filter((write) => write.startsWith('data:'))).toEqual([...EVENTS, 'data: [DONE]\n\n'])
})

test('on the wire an event is one chunk, so that a connection that is cut between chunks is cut between events', async () => {
  const listener = await listen('127.0.0.1', 0)
  onTestFinished(() => listener.close(0))
  // The response still continues when the connection is cut.
  const endless = () => new Promise<void>(() => undefined)
  listener.serve(
    () =>
      new Response(eventStream(textsThen(endless), OPTIONS), { headers: { 'content-type': EVENT_STREAM } }),
  )
  const { port } = new URL(listener.url)
  const socket = connect(Number(port), '127.0.0.1')
  const received: Buffer[] = []
  socket.on('data', (bytes: Buffer) => received.push(bytes))
  socket.on('error', () => undefined)
  socket.write('GET / HTTP/1.1\r\nhost: node\r\n\r\n')
  const last = `${EVENTS.at(-1)}\r\n`
  while (!Buffer.concat(received).includes(last)) await once(socket, 'data')
  const ended = once(socket, 'close')
  await listener.close(0)
  await ended
  expect(chunksOf(Buffer.concat(received))).toEqual(EVENTS)
})

/** Splits an HTTP/1.1 response into chunks: `size in hexadecimal \r\n bytes \r\n`. */
function chunksOf(answer: Buffer): string[] {
  const chunks: string[] = []
  let at = answer.indexOf('\r\n\r\n') + 4
  while (at < answer.length) {
    const lineEnd = answer.indexOf('\r\n', at)
    const size = Number.parseInt(answer.toString('latin1', at, lineEnd), 16)
    chunks.push(answer.toString('utf8', lineEnd + 2, lineEnd + 2 + size))
    at = lineEnd + 2 + size + 2
  }
  return chunks
}
