import { afterAll, afterEach, beforeAll } from 'vitest'
import { createArithmeticBackend, type ArithmeticOptions } from './arithmetic-backend.ts'
import { startTestNode, type TestNode } from '../processes/in-process-node.ts'
import { openTinyModel, type TinyModel } from '../models/tiny-model.ts'

/** Options of {@link startTestNode} except the backend and the model. */
export type ArithmeticNodeOptions = Omit<Parameters<typeof startTestNode>[0], 'backend' | 'model'> & {
  arithmetic?: ArithmeticOptions
}

/** A chat that the node answers at length. */
export const CHAT = {
  model: 'tiny',
  messages: [{ role: 'user', content: 'the cat sat on the mat' }],
  max_tokens: 24,
  seed: 1,
}
export const PROMPT = {
  model: 'tiny',
  prompt: 'the cat sat on the mat and it is there',
  max_tokens: 24,
  seed: 1,
}

export const json = async <T>(response: Response) => (await response.json()) as T

/** Starts nodes on the arithmetic backend for the tests of one file, and closes them after the test that started them. */
export function arithmeticNodes({ contextLength = 256 } = {}) {
  let tiny: TinyModel
  const running: TestNode[] = []
  beforeAll(async () => {
    tiny = await openTinyModel({ contextLength })
  })
  afterAll(() => tiny.remove())
  afterEach(async () => {
    for (const node of running.splice(0)) await node.close()
  })
  return {
    model: () => tiny.model,
    /** Starts a node with version 7 active, which holds the dense weights too. */
    start: async ({ arithmetic, ...options }: ArithmeticNodeOptions = {}) => {
      const backend = createArithmeticBackend({ vocabSize: tiny.model.config.vocabSize, ...arithmetic })
      const dense = backend.weights(0)
      const node = await startTestNode({ backend, model: tiny.model, dense: () => dense, ...options })
      running.push(node)
      const active = backend.weights(7)
      node.engine.setActive(active)
      return { backend, node, active, dense }
    },
  }
}
