/** Drafts of the engines that take some, and of grammars, on the tiny model. */
import { expect, onTestFinished, test } from 'vitest'
import { createEngine } from '../../../../gpu-node/src/serving/engine/engine.ts'
import { createGrammarCompiler } from '../../../../gpu-node/src/serving/grammar/grammar-compiler.ts'
import { readGeneration, request } from '../../../support/doubles/arithmetic-engine.ts'
import { addon, BACKENDS } from '../../../support/engine/backends.ts'
import { GPU_BACKENDS, skipWithoutGpu } from '../../../support/engine/gpu.ts'
import { checkInvariants } from '../../../support/engine/engine-invariants.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { skipWithoutAddon } from '../../../support/harness/skip-without-addon.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { DOCUMENT_SCHEMA } from '../../../support/text/document-schema.ts'
import { jsonOf } from '../../../support/text/json-grammar-source.ts'
import { openTinyModel } from '../../../support/models/tiny-model.ts'

const SCHEMA = {
  ...DOCUMENT_SCHEMA,
  properties: { ...DOCUMENT_SCHEMA.properties, recipient_address: { type: 'string', maxLength: 8 } },
  required: [...DOCUMENT_SCHEMA.required, 'recipient_address'],
}

if (!addon) skipWithoutAddon('the sparse engine')
skipWithoutGpu('drafted outputs')
// One more than run at once, with and without a grammar, greedy and not: a software driver takes more than a second for each.
const GPU_REQUESTS = 4
const DRAFTED = addon
  ? [
      { ...BACKENDS[1]!, requests: 12 },
      ...GPU_BACKENDS.map((backend) => ({ ...backend, requests: GPU_REQUESTS })),
    ]
  : []
test.for(DRAFTED)(
  '$name: outputs are the same with and without drafts, under a grammar and without',
  async ({ create, requests }) => {
    const tiny = await openTinyModel({ contextLength: 512 })
    onTestFinished(() => tiny.remove())
    const { model } = tiny
    const grammars = createGrammarCompiler(model)
    const constrain = await grammars.compile(jsonOf(SCHEMA))

    async function outputs(draftTokens: number) {
      const backend = create(temporaryDir())
      let [drafted, accepted, nowMs] = [0, 0, 0]
      const engine = createEngine({
        backend,
        config: model.config,
        codec: model.codec,
        inspect: checkInvariants,
        // All steps take the same time, so a further token costs nothing.
        nowMs: () => (nowMs += 1),
        policy: { maxRunning: 3, kvTokens: 4096, draftTokens },
        observer: {
          step({ draftTokens: fed, acceptedDrafts }) {
            drafted += fed
            accepted += acceptedDrafts
          },
        },
      })
      const weights = await backend.load({ model, version: 0, maskPath: null, priority: 'serving' })
      onTestFinished(async () => {
        engine.close()
        await backend.release(weights)
      })
      engine.setActive(weights)
      const random = createRandom(4)
      const results = await Promise.all(
        Array.from({ length: requests }, async (_, index) => {
          const passage = Array.from({ length: 30 }, () => Math.floor(random() * 300))
          const { outcome, text } = await readGeneration(
            engine.generate({
              ...request([...passage, ...passage.slice(0, 10)], { maxTokens: 300, seed: index }),
              sampling: {
                ...request([]).sampling,
                seed: index,
                temperature: index % 3 === 0 ? 0 : 0.7,
                frequencyPenalty: index % 4 === 0 ? 0.5 : 0,
                topLogprobs: index % 2 === 0 ? 3 : -1,
              },
              constraint: index % 2 === 0 ? constrain() : undefined,
            }),
          )
          return { tokens: outcome.text.tokens, text, reason: outcome.finishReason }
        }),
      )
      return { results, drafted, accepted }
    }

    const [without, withDrafts] = [await outputs(0), await outputs(8)]
    expect(withDrafts.results).toEqual(without.results)
    expect(without.drafted).toBe(0)
    expect(withDrafts.accepted).toBeGreaterThan(100)
    const complete = withDrafts.results.filter(({ reason }, index) => index % 2 === 0 && reason === 'stop')
    expect(complete.length).toBeGreaterThan(0)
    for (const { text } of complete) expect(Object.keys(JSON.parse(text))).toEqual(SCHEMA.required)
  },
)
