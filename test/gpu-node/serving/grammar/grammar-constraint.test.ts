/** Tests what the outputs of a grammar may be, and what must follow, token by token. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Matcher } from '../../../../gpu-node/native/addon.d.ts'
import { loadNative } from '../../../../gpu-node/src/platform/native-addon.ts'
import {
  createGrammarCompiler,
  type GrammarCompiler,
} from '../../../../gpu-node/src/serving/grammar/grammar-compiler.ts'
import { createGrammarConstraint } from '../../../../gpu-node/src/serving/grammar/grammar-constraint.ts'
import { createVocabulary } from '../../../../gpu-node/src/serving/grammar/grammar-vocabulary.ts'
import { addon } from '../../../support/engine/backends.ts'
import { tokensOf } from '../../../support/engine/token-masks.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { skipWithoutAddon } from '../../../support/harness/skip-without-addon.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import { jsonOf } from '../../../support/text/json-grammar-source.ts'
import { randomAnswer } from '../../../support/text/random-answer.ts'
import { randomSchema } from '../../../support/text/random-schema.ts'
import { sentencePieceCodec } from '../../../support/text/sentencepiece-codec.ts'

const NONE = new Int32Array(0)

let tiny: TinyModel
let grammars: GrammarCompiler
beforeAll(async () => {
  tiny = await openTinyModel()
  grammars = createGrammarCompiler(tiny.model)
})
afterAll(() => tiny.remove())

if (addon) testConstraints()
else skipWithoutAddon('grammars')

function testConstraints(): void {
  test('an output that is checked again, from the start or from any token, gets the same masks', async () => {
    const constrain = await grammars.compile(jsonOf(randomSchema(createRandom(77))))
    const { codec, config } = tiny.model
    const { tokens } = await randomAnswer(codec, config.eosTokenIds, constrain(), createRandom(3))
    const masks: (readonly Uint32Array[])[] = []
    const once = constrain()
    for (let length = 0; length <= tokens.length; length++)
      masks.push(await once.allowedAfter(tokens.slice(0, length)))
    for (const length of [0, tokens.length, Math.floor(tokens.length / 2), tokens.length])
      expect(await once.allowedAfter(tokens.slice(0, length))).toEqual(masks[length])
  })

  test.each([1, 2, 3, 4, 5, 6])(
    'schema %i: what must follow does follow, and looking ahead changes no mask',
    async (seed) => {
      const { codec, config } = tiny.model
      const constrain = await grammars.compile(jsonOf(randomSchema(createRandom(seed))))
      const { tokens, text } = await randomAnswer(codec, config.eosTokenIds, constrain(), createRandom(seed))
      const [plain, ahead] = [constrain(), constrain()]
      const masks: Uint32Array[] = []
      for (let length = 0; length <= tokens.length; length++)
        masks.push(...(await plain.allowedAfter(tokens.slice(0, length))))
      const bytes = (ids: readonly number[]) => Buffer.concat(ids.map((id) => codec.tokenBytes(id)))
      for (let length = 0; length <= tokens.length; length++) {
        const generated = tokens.slice(0, length)
        const forced = bytes((await ahead.forcedAfter(generated)) ?? []).toString('latin1')
        const rest = Buffer.from(text).subarray(bytes(generated).length).toString('latin1')
        expect(rest.slice(0, forced.length)).toBe(forced)
        const drafts = tokens.slice(length, length + 3)
        const rows = await ahead.allowedAfter(generated, [...drafts, config.vocabSize - 1])
        // On a busy machine looking ahead may take too long, and end before the last draft.
        const known = Math.min(rows.length, drafts.length + 1)
        expect(rows.slice(0, known)).toEqual(masks.slice(length, length + known))
      }
    },
  )

  test('text that must follow has no space before its first word in a vocabulary of SentencePiece', async () => {
    const codec = sentencePieceCodec()
    const config = { vocabSize: 264, eosTokenIds: [2] }
    const compiler = createGrammarCompiler({ codec, config })
    const constrain = await compiler.compile({ language: 'lark', text: 'start: "hi hi"', param: 'tools' })
    // On a busy machine a look may take too long.
    await expect.poll(() => constrain().forcedAfter([])).toEqual([262, 263])
  })

  test('a matcher is freed and restarted when its constraint is released or given another output', async () => {
    const { text } = jsonOf({ enum: ['one', 'two', 'twelve'] })
    const vocabulary = await createVocabulary(loadNative(), tiny.model.codec, tiny.model.config)
    const grammar = await vocabulary.compile('json_schema', text)
    const holding = new Set<Matcher>()
    const held = {
      matcher() {
        const matcher = grammar.matcher()
        return {
          advance(tokens: Int32Array, drafts: Int32Array) {
            holding.add(matcher)
            return matcher.advance(tokens, drafts)
          },
          forced: (tokens: Int32Array) => matcher.forced(tokens),
          free() {
            matcher.free()
            holding.delete(matcher)
          },
        }
      },
    }
    const constraint = createGrammarConstraint(held, tiny.model.codec, tiny.model.config.vocabSize)
    const begun = tiny.model.codec.encode('"tw')
    const masks = [await constraint.allowedAfter([]), await constraint.allowedAfter(begun)]
    expect(holding.size).toBe(1)
    expect(await constraint.allowedAfter([])).toEqual(masks[0])
    expect(holding.size).toBe(1)
    const last = constraint.allowedAfter(begun)
    constraint.release()
    constraint.release()
    expect(await last).toEqual(masks[1])
    await new Promise((resolve) => setImmediate(resolve))
    expect(holding.size).toBe(0)
    expect(await constraint.allowedAfter(begun)).toEqual(masks[1])
  })

  test('a matcher that was freed, once or twice, cannot be used', async () => {
    const vocabulary = await createVocabulary(loadNative(), tiny.model.codec, tiny.model.config)
    const grammar = await vocabulary.compile('json_schema', '{"type": "boolean"}')
    const [used, unused, other] = [grammar.matcher(), grammar.matcher(), grammar.matcher()]
    await used.advance(NONE, NONE)
    for (const matcher of [used, unused]) {
      matcher.free()
      matcher.free()
      await expect(matcher.advance(NONE, NONE)).rejects.toMatchObject({
        code: 'InvalidState',
        message: 'the matcher was freed',
      })
    }
    expect(tokensOf(await other.advance(NONE, NONE)).length).toBeGreaterThan(0)
  })
}
