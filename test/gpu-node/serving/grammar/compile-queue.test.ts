import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import type { Grammar } from '../../../../gpu-node/native/addon.d.ts'
import {
  createGrammarCompiler,
  type GrammarSource,
} from '../../../../gpu-node/src/serving/grammar/grammar-compiler.ts'
import { TooCostlyError } from '../../../../gpu-node/src/serving/grammar/compile-sandbox.ts'
import { createTenantSchemaLimits } from '../../../../gpu-node/src/serving/grammar/tenant-schema-limits.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import { WAIT } from '../../../support/harness/wait.ts'

let tiny: TinyModel
beforeAll(async () => {
  tiny = await openTinyModel()
})
afterAll(() => tiny.remove())

const source = (text: string): GrammarSource => ({ language: 'json_schema', text, param: 'tools' })

/** Creates a compiler whose sandbox calls end on demand, and whose compiled grammars are empty. */
function setup(nowMs = () => 0) {
  const compiled: string[] = []
  const calls = new Map<string, PromiseWithResolvers<void>>()
  const grammars = createGrammarCompiler({
    ...tiny.model,
    nowMs,
    load: () => ({ createVocabulary: async () => ({ compile: async () => ({}) as Grammar }) }),
    async sandbox({ text }) {
      compiled.push(text)
      await sandboxCall(text).promise
    },
  })
  const sandboxCall = (text: string) => {
    const call = calls.get(text) ?? Promise.withResolvers<void>()
    calls.set(text, call)
    return call
  }
  return { grammars, compiled, sandboxCall }
}

test('a client that disconnects leaves the queue, unless another waits for the same grammar', async () => {
  const { grammars, compiled, sandboxCall } = setup()
  const [leaver, other] = [new AbortController(), new AbortController()]
  const first = grammars.compile(source('first'))
  const alone = grammars.compile(source('alone'), { signal: leaver.signal })
  const shared = grammars.compile(source('shared'), { signal: leaver.signal })
  const kept = grammars.compile(source('shared'), { signal: other.signal })
  leaver.abort()
  await expect(alone).rejects.toMatchObject({ code: 'client_closed_request' })
  await expect(shared).rejects.toMatchObject({ code: 'client_closed_request' })
  sandboxCall('first').resolve()
  sandboxCall('shared').resolve()
  expect(await first).toBeTypeOf('function')
  expect(await kept).toBeTypeOf('function')
  expect(compiled).toEqual(['first', 'shared'])
  sandboxCall('alone').resolve()
  expect(await grammars.compile(source('alone'))).toBeTypeOf('function')
})

test('a grammar known as too costly is rejected at once, under the field of the new request', async () => {
  const { grammars, compiled, sandboxCall } = setup()
  sandboxCall('costly').reject(new TooCostlyError('it takes too much'))
  const refusal = { code: 'invalid_request', message: expect.stringContaining('it takes too much') as string }
  await expect(grammars.compile(source('costly'))).rejects.toMatchObject({ ...refusal, param: 'tools' })
  const again = grammars.compile({ ...source('costly'), param: 'response_format' })
  await expect(again).rejects.toMatchObject({ ...refusal, param: 'response_format' })
  expect(compiled).toEqual(['costly'])
})

test('few grammars of one tenant wait, the excess is refused as its own, and those of others are compiled between', async () => {
  const { grammars, compiled, sandboxCall } = setup()
  const ask = (text: string, tenant: string) => grammars.compile(source(text), { tenant })
  const waiting = ['a', 'b', 'c', 'd'].map((text) => ask(text, 'tenant-1'))
  await expect(ask('e', 'tenant-1')).rejects.toMatchObject({ code: 'rate_limit_exceeded', retryAfterS: 1 })
  const others = ask('f', 'tenant-2')
  for (const text of 'abcdef') sandboxCall(text).resolve()
  await Promise.all([...waiting, others])
  expect(await ask('e', 'tenant-1')).toBeTypeOf('function')
  await vi.waitFor(() => expect(compiled).toEqual(['a', 'b', 'f', 'c', 'd', 'e']), WAIT)
})

test.each([undefined, 'tenant-1'])(
  'an API key whose grammars wait leaves room for the other keys of its tenant (%s)',
  async (tenant) => {
    const { grammars, sandboxCall } = setup()
    const ask = (text: string, account: string) => grammars.compile(source(text), { tenant, account })
    const waiting = ['a', 'b', 'c', 'd'].map((text) => ask(text, 'key-1'))
    await expect(ask('e', 'key-1')).rejects.toMatchObject({ code: 'rate_limit_exceeded', param: 'tools' })
    const other = ask('f', 'key-2')
    for (const text of ['a', 'b', 'c', 'd', 'f']) sandboxCall(text).resolve()
    await Promise.all(waiting)
    expect(await other).toBeTypeOf('function')
  },
)

test('a schema that made the compiling process fail is refused for a minute, for its tenant only', async () => {
  let nowMs = 0
  const { grammars, compiled, sandboxCall } = setup(() => nowMs)
  const ask = (text: string, tenant: string) => grammars.compile(source(text), { tenant })
  const crash = new AppError('node_failed', 'The process that compiles schemas on this node failed.')
  for (const text of ['bad-1', 'bad-2', 'bad-3']) {
    sandboxCall(text).promise.catch(() => undefined)
    sandboxCall(text).reject(crash)
  }
  await expect(ask('bad-1', 'tenant-1')).rejects.toMatchObject({ code: 'node_failed' })
  // It must wait a minute. Header and message name at most 59 s, the longest time that all of OpenAI's clients wait.
  const message = expect.stringContaining('try again in 59 s') as string
  const refusal = { code: 'rate_limit_exceeded', param: 'tools', retryAfterS: 59, message }
  await expect(ask('bad-1', 'tenant-1')).rejects.toMatchObject(refusal)
  sandboxCall('good').resolve()
  expect(await ask('good', 'tenant-1')).toBeTypeOf('function')
  for (const text of ['bad-2', 'bad-3'])
    await expect(ask(text, 'tenant-1')).rejects.toMatchObject({ code: 'node_failed' })
  // Three failures: new schemas of the tenant wait too, but neither compiled ones nor those of others.
  sandboxCall('new').resolve()
  await expect(ask('new', 'tenant-1')).rejects.toMatchObject(refusal)
  expect(await ask('good', 'tenant-1')).toBeTypeOf('function')
  expect(await ask('new', 'tenant-2')).toBeTypeOf('function')
  nowMs = 60_000
  expect(await ask('new', 'tenant-1')).toBeTypeOf('function')
  expect(compiled).toEqual(['bad-1', 'good', 'bad-2', 'bad-3', 'new', 'new'])
})

test('a schema is refused for a minute also when the clock of the system is set back meanwhile', () => {
  const limits = createTenantSchemaLimits()
  limits.recordCrash('tenant-1', 'bad')
  const check = () => limits.check('tenant-1', { key: 'bad', param: 'tools' })
  expect(check).toThrow('failed with this one')
  onTestFinished(() => void vi.restoreAllMocks())
  vi.spyOn(Date, 'now').mockReturnValue(Date.now() - 3_600_000)
  vi.spyOn(performance, 'now').mockReturnValue(performance.now() + 60_000)
  expect(check).not.toThrow()
})

test('a full queue of schemas is an error about the field, so that the node does not count as full', async () => {
  const { grammars, sandboxCall } = setup()
  const texts = Array.from({ length: 24 }, (_, index) => `s-${index}`)
  const waiting = texts.map((text, index) =>
    grammars.compile(source(text), { tenant: `tenant-${index % 6}` }),
  )
  await expect(grammars.compile(source('more'), { tenant: 'tenant-6' })).rejects.toMatchObject({
    code: 'overloaded',
    param: 'tools',
  })
  for (const text of texts) sandboxCall(text).resolve()
  await Promise.all(waiting)
})

test("another tenant's grammars, compiled or rejected, save a tenant no time", async () => {
  const { grammars, compiled, sandboxCall } = setup()
  const ask = (text: string, tenant: string) => grammars.compile(source(text), { tenant })
  sandboxCall('shared').resolve()
  const costly = new TooCostlyError('it takes too much')
  sandboxCall('costly').promise.catch(() => undefined)
  sandboxCall('costly').reject(costly)
  for (const tenant of ['tenant-1', 'tenant-2', 'tenant-1']) {
    expect(await ask('shared', tenant)).toBeTypeOf('function')
    await expect(ask('costly', tenant)).rejects.toMatchObject({ code: 'invalid_request' })
  }
  expect(compiled).toEqual(['shared', 'costly', 'shared', 'costly'])
})

test("many grammars of one tenant evict its own, not another's", async () => {
  const { grammars, compiled, sandboxCall } = setup()
  const ask = (text: string, tenant: string) => {
    sandboxCall(text).resolve()
    return grammars.compile(source(text), { tenant })
  }
  await ask('few', 'tenant-1')
  for (let i = 0; i < 40; i++) await ask(`many ${i}`, 'tenant-2')
  const before = compiled.length
  await ask('few', 'tenant-1')
  await ask('many 39', 'tenant-2')
  expect(compiled).toHaveLength(before)
  await ask('many 0', 'tenant-2')
  expect(compiled).toHaveLength(before + 1)
})

test('a grammar that a client has just abandoned is compiled for the next one, whenever that one comes', async () => {
  for (let turns = 0; turns < 12; turns++) {
    const { grammars, sandboxCall } = setup()
    const leaver = new AbortController()
    const first = grammars.compile(source('first'))
    const left = Promise.allSettled([grammars.compile(source('shared'), { signal: leaver.signal })])
    leaver.abort()
    for (let turn = 0; turn < turns; turn++) await Promise.resolve()
    const next = grammars.compile(source('shared'))
    for (const text of ['first', 'shared']) sandboxCall(text).resolve()
    expect(await next, `after ${turns} turns`).toBeTypeOf('function')
    await Promise.all([first, left])
  }
})

test('after a failed vocabulary, no two grammars are in the sandbox at once', async () => {
  let inSandbox = 0
  let most = 0
  let failures = 1
  const grammars = createGrammarCompiler({
    ...tiny.model,
    load: () => ({
      async createVocabulary() {
        if (failures-- > 0) throw new Error('no thread')
        return { compile: async () => ({}) as Grammar }
      },
    }),
    async sandbox() {
      inSandbox += 1
      most = Math.max(most, inSandbox)
      // Longer than the vocabulary takes.
      await new Promise((resolve) => setTimeout(resolve, 100))
      inSandbox -= 1
    },
  })
  const outcomes = await Promise.allSettled(['a', 'b'].map((text) => grammars.compile(source(text))))
  expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'fulfilled'])
  expect(most).toBe(1)
})
