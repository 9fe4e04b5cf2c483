import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { Grammar } from '../../../../gpu-node/native/addon.d.ts'
import {
  createGrammars,
  type GrammarSource,
} from '../../../../gpu-node/src/serving/grammar/grammar-compiler.ts'
import { TooCostlyError } from '../../../../gpu-node/src/serving/grammar/compile-sandbox.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import { WAIT } from '../../../support/harness/wait.ts'

let tiny: TinyModel
beforeAll(async () => {
  tiny = await openTinyModel()
})
afterAll(() => tiny.remove())

const source = (text: string): GrammarSource => ({ language: 'json_schema', text, param: 'tools' })

/** Grammars whose trials end when the test says so; what is compiled then is nothing. */
function setup() {
  const tried: string[] = []
  const trials = new Map<string, PromiseWithResolvers<void>>()
  const grammars = createGrammars({
    ...tiny.model,
    load: () => ({ createVocabulary: async () => ({ compile: async () => ({}) as Grammar }) }),
    async trial({ text }) {
      tried.push(text)
      await trialOf(text).promise
    },
  })
  const trialOf = (text: string) => {
    const trial = trials.get(text) ?? Promise.withResolvers<void>()
    trials.set(text, trial)
    return trial
  }
  return { grammars, tried, trialOf }
}

test('who leaves gives up its place, unless another asks for the same', async () => {
  const { grammars, tried, trialOf } = setup()
  const [leaver, other] = [new AbortController(), new AbortController()]
  const first = grammars.compile(source('first'))
  const alone = grammars.compile(source('alone'), { signal: leaver.signal })
  const shared = grammars.compile(source('shared'), { signal: leaver.signal })
  const kept = grammars.compile(source('shared'), { signal: other.signal })
  leaver.abort()
  await expect(alone).rejects.toMatchObject({ code: 'client_closed_request' })
  await expect(shared).rejects.toMatchObject({ code: 'client_closed_request' })
  trialOf('first').resolve()
  trialOf('shared').resolve()
  expect(await first).toBeTypeOf('function')
  expect(await kept).toBeTypeOf('function')
  expect(tried).toEqual(['first', 'shared'])
  trialOf('alone').resolve()
  expect(await grammars.compile(source('alone'))).toBeTypeOf('function')
})

test('a grammar that was too costly is refused at once when it comes again, by the field that it came in', async () => {
  const { grammars, tried, trialOf } = setup()
  trialOf('costly').reject(new TooCostlyError('it takes too much'))
  const refusal = { code: 'invalid_request', message: expect.stringContaining('it takes too much') as string }
  await expect(grammars.compile(source('costly'))).rejects.toMatchObject({ ...refusal, param: 'tools' })
  const again = grammars.compile({ ...source('costly'), param: 'response_format' })
  await expect(again).rejects.toMatchObject({ ...refusal, param: 'response_format' })
  expect(tried).toEqual(['costly'])
})

test('of one tenant few wait, so that others have their turn', async () => {
  const { grammars, tried, trialOf } = setup()
  const ask = (text: string, tenant: string) => grammars.compile(source(text), { tenant })
  const waiting = ['a', 'b', 'c', 'd'].map((text) => ask(text, 'tenant-1'))
  await expect(ask('e', 'tenant-1')).rejects.toMatchObject({ code: 'overloaded', retryAfterS: 1 })
  const others = ask('f', 'tenant-2')
  for (const text of 'abcdef') trialOf(text).resolve()
  await Promise.all([...waiting, others])
  expect(await ask('e', 'tenant-1')).toBeTypeOf('function')
  await vi.waitFor(() => expect(tried).toEqual(['a', 'b', 'c', 'd', 'f', 'e']), WAIT)
})

test('what one tenant has had compiled, or refused, takes another as long as anything new', async () => {
  const { grammars, tried, trialOf } = setup()
  const ask = (text: string, tenant: string) => grammars.compile(source(text), { tenant })
  trialOf('shared').resolve()
  const costly = new TooCostlyError('it takes too much')
  trialOf('costly').promise.catch(() => undefined)
  trialOf('costly').reject(costly)
  for (const tenant of ['tenant-1', 'tenant-2', 'tenant-1']) {
    expect(await ask('shared', tenant)).toBeTypeOf('function')
    await expect(ask('costly', tenant)).rejects.toMatchObject({ code: 'invalid_request' })
  }
  expect(tried).toEqual(['shared', 'costly', 'shared', 'costly'])
})

test("many grammars of one tenant drive out its own, not another's", async () => {
  const { grammars, tried, trialOf } = setup()
  const ask = (text: string, tenant: string) => {
    trialOf(text).resolve()
    return grammars.compile(source(text), { tenant })
  }
  await ask('few', 'tenant-1')
  for (let i = 0; i < 40; i++) await ask(`many ${i}`, 'tenant-2')
  const before = tried.length
  await ask('few', 'tenant-1')
  await ask('many 39', 'tenant-2')
  expect(tried).toHaveLength(before)
  await ask('many 0', 'tenant-2')
  expect(tried).toHaveLength(before + 1)
})
