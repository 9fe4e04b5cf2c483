import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { JsonSchema } from '@copal/shared/wire/schema-walk.ts'
import { loadNative, NativeUnavailableError } from '../../../../gpu-node/src/platform/native-addon.ts'
import {
  createGrammarCompiler,
  type GrammarCompiler,
  type GrammarSource,
} from '../../../../gpu-node/src/serving/grammar/grammar-compiler.ts'
import { createCompileSandbox } from '../../../../gpu-node/src/serving/grammar/compile-sandbox.ts'
import { COMPILE_LIMITS } from '../../../../gpu-node/src/serving/grammar/compile-sandbox-protocol.ts'
import {
  toolGrammar,
  type ToolGrammarOptions,
} from '../../../../gpu-node/src/serving/grammar/tool-grammar.ts'
import { createToolCallReader } from '../../../../gpu-node/src/serving/server/formats/tool-call-reader.ts'
import { addon } from '../../../support/engine/backends.ts'
import { skipWithoutAddon } from '../../../support/harness/skip-without-addon.ts'
import { CLOCK, TREE } from '../../../support/text/example-tools.ts'
import { jsonOf } from '../../../support/text/json-grammar-source.ts'
import { randomAnswer } from '../../../support/text/random-answer.ts'
import { randomSchema } from '../../../support/text/random-schema.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import { tokensOf } from '../../../support/engine/token-masks.ts'

let tiny: TinyModel
let grammars: GrammarCompiler
beforeAll(async () => {
  tiny = await openTinyModel()
  grammars = createGrammarCompiler(tiny.model)
})
afterAll(() => tiny.remove())

const callsOf = (options: ToolGrammarOptions): GrammarSource => ({
  language: 'lark',
  text: toolGrammar(options),
  param: 'tools',
})

test('without the addon a grammar is rejected with a remedy', async () => {
  const without = createGrammarCompiler({
    ...tiny.model,
    load: () => loadNative(['/nowhere/copal.node']),
  })
  await expect(without.compile(jsonOf({ type: 'object' }))).rejects.toMatchObject({
    code: 'invalid_request',
    param: 'response_format.json_schema.schema',
    message: expect.stringMatching(
      /native addon is missing.*'npm start' builds.*build-native\.mjs.*need not be restarted/,
    ),
    cause: expect.any(NativeUnavailableError),
  })
})

if (addon) testGrammars()
else skipWithoutAddon('grammars')

function testGrammars(): void {
  test('an addon built later is found with the next grammar, without a restart', async () => {
    let isBuilt = false
    const grammarsOf = createGrammarCompiler({
      ...tiny.model,
      load: () => loadNative(isBuilt ? undefined : ['/nowhere/copal.node']),
    })
    const source = jsonOf({ type: 'object' })
    await expect(grammarsOf.compile(source)).rejects.toMatchObject({ code: 'invalid_request' })
    isBuilt = true
    expect(await grammarsOf.compile(source)).toBeTypeOf('function')
  })

  const answerTo = async (
    source: GrammarSource,
    seed: number,
    prefer?: Parameters<typeof randomAnswer>[4],
  ): Promise<string> => {
    const constrain = await grammars.compile(source)
    const { codec, config } = tiny.model
    return (await randomAnswer(codec, config.eosTokenIds, constrain(), createRandom(seed), prefer)).text
  }

  describe('random outputs for random schemas', () => {
    test.each(Array.from({ length: 20 }, (_, seed) => seed))('seed %i: parse and fit', async (seed) => {
      const schema = randomSchema(createRandom(seed))
      const validator = new Ajv2020({ strict: false, validateFormats: true })
      addFormats.default(validator)
      const fits = validator.compile(schema)
      for (const draw of [1, 2, 3]) {
        const text = await answerTo(jsonOf(schema), 100 * seed + draw)
        fits(JSON.parse(text))
        expect({ schema, text, errors: fits.errors }).toEqual({ schema, text, errors: null })
        expect(text).not.toMatch(/^\s|\s$|\n/)
      }
    })
  })

  test('any object is JSON', async () => {
    for (const seed of [1, 2, 3, 4, 5]) {
      const value: unknown = JSON.parse(await answerTo(jsonOf({ type: 'object' }), seed))
      expect(value).toBeTypeOf('object')
      expect(Array.isArray(value)).toBe(false)
    }
  })

  function readCalls(text: string) {
    const reader = createToolCallReader()
    const calls: { name: string; arguments: string }[] = []
    let content = ''
    for (const piece of [...reader.push(text), ...reader.end()]) {
      if (piece.kind === 'content') content += piece.text
      else if (piece.kind === 'call') calls.push({ name: piece.name, arguments: '' })
      else calls[piece.call]!.arguments += piece.text
    }
    return { content, calls }
  }

  const PARAMETERS: Record<string, object> = {
    clock: { type: 'object', maxProperties: 0 },
    plant: TREE.function.parameters as object,
  }
  /** Returns the calls whose arguments do not fit. */
  const misfitsOf = (calls: readonly { name: string; arguments: string }[]) =>
    calls.filter(
      (call) => !new Ajv2020().validate(PARAMETERS[call.name] ?? false, JSON.parse(call.arguments)),
    )

  test('required calls are the only output, with arguments that fit, also for recursive schemas', async () => {
    const names = new Set<string>()
    let several = 0
    for (let seed = 0; seed < 12; seed++) {
      const { content, calls } = readCalls(
        await answerTo(callsOf({ tools: [TREE, CLOCK], mode: 'required', parallel: true }), seed),
      )
      expect(content).toBe('')
      expect(calls.length).toBeGreaterThan(0)
      if (calls.length > 1) several += 1
      expect(misfitsOf(calls)).toEqual([])
      for (const { name } of calls) names.add(name)
    }
    expect([...names].toSorted()).toEqual(['clock', 'plant'])
    expect(several).toBeGreaterThan(0)
  })

  test('without parallel calls there is exactly one call', async () => {
    for (let seed = 0; seed < 6; seed++) {
      const text = await answerTo(callsOf({ tools: [CLOCK], mode: 'required', parallel: false }), seed)
      expect(readCalls(text)).toEqual({ content: '', calls: [{ name: 'clock', arguments: '{}' }] })
    }
  })

  test('output may be text, or text followed by calls, and only calls after the first marker', async () => {
    const source = callsOf({ tools: [TREE, CLOCK], mode: 'auto', parallel: true })
    const plain = (await grammars.compile(source))()
    const hello = tiny.model.codec.encode('Hello <tool_cal <b>\n')
    const allowed = tokensOf((await plain.allowedAfter(hello))[0]!)
    expect(allowed).toContain(tiny.model.config.eosTokenIds[0])
    expect(allowed).toContain(tiny.model.codec.encode('z')[0])
    // Other control tokens are not text.
    expect(allowed).not.toContain(1)

    const begun = 'Well. <tool_call>'
    for (let seed = 0; seed < 6; seed++) {
      const text = await answerTo(source, seed, (sofar) => begun[sofar.length])
      const { content, calls } = readCalls(text)
      expect(content).toBe('Well.')
      expect(calls).not.toEqual([])
      expect(misfitsOf(calls)).toEqual([])
    }
  })

  test('with a format and tools the output fits the format or calls a tool', async () => {
    const schema = {
      type: 'object',
      properties: { ok: { type: 'boolean' } },
      required: ['ok'],
      additionalProperties: false,
    }
    const source = callsOf({ tools: [CLOCK], mode: 'auto', parallel: false, schema })
    const told = new Set<string>()
    for (let seed = 0; seed < 24; seed++) {
      const { content, calls } = readCalls(await answerTo(source, seed))
      told.add(content + calls.map((each) => each.name + each.arguments).join(' and '))
    }
    expect([...told].toSorted()).toEqual(['clock{}', '{"ok": false}', '{"ok": true}'])
  })

  test('concurrent outputs of one grammar do not affect each other', async () => {
    const constrain = await grammars.compile(jsonOf(randomSchema(createRandom(5))))
    const { codec, config } = tiny.model
    const answer = (seed: number) => randomAnswer(codec, config.eosTokenIds, constrain(), createRandom(seed))
    const alone = []
    for (const seed of [1, 2, 3, 4]) alone.push(await answer(seed))
    expect(await Promise.all([1, 2, 3, 4].map(answer))).toEqual(alone)
  })

  describe('unsupported schemas are rejected by name', () => {
    test.each<[string, JsonSchema, RegExp]>([
      ['a format', { type: 'string', format: 'color' }, /'format': 'color' is not supported/],
      ['oneOf that overlaps', { oneOf: [{ type: 'string' }, { type: 'string', maxLength: 2 }] }, /'oneOf'/],
      [
        'a reference elsewhere',
        { $ref: 'https://example.com/schema' },
        /'\$ref': 'https:\/\/example.com\/schema'/,
      ],
      ['a reference to nothing', { $ref: '#/$defs/none' }, /'\$ref': there is no '#\/\$defs\/none'/],
      ['a contradiction', { type: 'integer', minimum: 3, maximum: 2 }, /fits|minimum/],
      ['a type that is none', { type: 'text' }, /Invalid type: text/],
      ['a pattern that is none', { type: 'string', pattern: '(' }, /pattern|regex/i],
      ['a lookahead', { type: 'string', pattern: '^(?=a)b' }, /look/i],
      ['a keyword that the walk does not reach', { allOf: [true, { not: {} }] }, /'not'/],
    ])('%s', async (_, schema, message) => {
      await expect(grammars.compile(jsonOf(schema))).rejects.toMatchObject({
        code: 'invalid_request',
        param: 'response_format.json_schema.schema',
        message: expect.stringMatching(message),
      })
    })
  })

  test('costly schemas are rejected or compiled without blocking the event loop', async () => {
    const costly: JsonSchema[] = [
      { type: 'string', pattern: '^((a{1,1000}){1,1000}){1,1000}$' },
      { type: 'array', items: { type: 'string' }, minItems: 1e9 },
      { type: 'string', minLength: 1e9 },
      { enum: Array.from({ length: 5000 }, (_, index) => `value ${index}`) },
      {
        allOf: Array.from({ length: 12 }, () => ({
          anyOf: [{ maxLength: 5 }, { minLength: 2 }, { pattern: 'a.*b' }],
        })),
      },
      {
        type: 'object',
        properties: Object.fromEntries(
          Array.from({ length: 1000 }, (_, index) => [`p${index}`, { type: 'string' }]),
        ),
      },
    ]
    let turns = 0
    const timer = setInterval(() => (turns += 1), 1)
    for (const schema of costly) {
      const outcome = await grammars.compile(jsonOf(schema)).then(
        async (constrain) => tokensOf((await constrain().allowedAfter([]))[0]!).length,
        (error: { code: string }) => error.code,
      )
      expect(['invalid_request', expect.any(Number)]).toContainEqual(outcome)
    }
    clearInterval(timer)
    expect(turns).toBeGreaterThan(costly.length)
  })

  test('a grammar is compiled once for all requests, and a rejected one is compiled again', async () => {
    let compiled = 0
    const counting = createGrammarCompiler({
      ...tiny.model,
      load: () => ({
        ...loadNative(),
        createVocabulary: async (...parts) => {
          const vocabulary = await loadNative().createVocabulary(...parts)
          return {
            compile: (language, source) => {
              compiled += 1
              return vocabulary.compile(language, source)
            },
          }
        },
      }),
    })
    const good = jsonOf({ type: 'boolean' })
    await Promise.all([counting.compile(good), counting.compile(good)])
    await counting.compile(good)
    expect(compiled).toBe(1)
    const bad = jsonOf({ type: 'text' })
    await expect(counting.compile(bad)).rejects.toThrow(/Invalid type/)
    await expect(counting.compile(bad)).rejects.toThrow(/Invalid type/)
    // Rejected in the sandbox.
    expect(compiled).toBe(1)
  })

  test('a vocabulary that could not be made is made for the next grammar', async () => {
    let failures = 1
    const failing = createGrammarCompiler({
      ...tiny.model,
      load: () => ({
        ...loadNative(),
        createVocabulary: (...parts) =>
          failures-- > 0 ? Promise.reject(new Error('no memory')) : loadNative().createVocabulary(...parts),
      }),
    })
    await expect(failing.compile(jsonOf({ type: 'boolean' }))).rejects.toThrow('cannot be compiled')
    await expect(failing.compile(jsonOf({ type: 'boolean' }))).resolves.toBeDefined()
  })

  test('a grammar that would take minutes and gigabytes is rejected within the limits, and the next is compiled', async () => {
    const together = Array.from({ length: 40 }, (_, index) => ({ type: 'string', pattern: `.*x${index}.*` }))
    const before = process.memoryUsage.rss()
    // A lower limit than by default, which the grammar exceeds as well.
    const sandbox = createCompileSandbox(undefined, { ...COMPILE_LIMITS, processorMs: 1000 })
    const limited = createGrammarCompiler({ ...tiny.model, sandbox })
    const refused = limited.compile(jsonOf({ allOf: together }))
    const next = limited.compile(jsonOf({ const: 'the next' }))
    await expect(refused).rejects.toMatchObject({
      code: 'invalid_request',
      param: 'response_format.json_schema.schema',
      message: expect.stringMatching(
        /too much time or memory\. Simplify it: each constraint that 'allOf' combines/,
      ),
    })
    const constraint = (await next)()
    expect(tokensOf((await constraint.allowedAfter([]))[0]!).length).toBeGreaterThan(0)
    expect(process.memoryUsage.rss() - before).toBeLessThan(100 * 1024 * 1024)
  })

  test('more grammars than may wait are rejected as overloaded', async () => {
    const sources = Array.from({ length: 40 }, (_, index) => jsonOf({ const: `answer ${index}` }))
    const outcomes = await Promise.allSettled(
      sources.map((source, index) => grammars.compile(source, { tenant: `tenant-${index % 10}` })),
    )
    const refusals = outcomes.filter((outcome) => outcome.status === 'rejected')
    expect(refusals.length).toBe(40 - 24)
    for (const { reason } of refusals) expect(reason).toMatchObject({ code: 'overloaded', retryAfterS: 1 })
  })

  test('two tenants with as many grammars as they may have leave room for a third one', async () => {
    const sources = Array.from({ length: 40 }, (_, index) => jsonOf({ const: `theirs ${index}` }))
    const outcomes = Promise.allSettled(
      sources.map((source, index) =>
        grammars.compile(source, { tenant: `full-${index % 2}`, account: `key-${index % 8}` }),
      ),
    )
    await expect(grammars.compile(jsonOf({ const: 'mine' }), { tenant: 'third' })).resolves.toBeDefined()
    expect((await outcomes).filter(({ status }) => status === 'rejected')).toHaveLength(40 - 16)
  })
}
