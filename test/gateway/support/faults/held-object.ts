import { runInDurableObject } from 'cloudflare:test'
import { until } from '../requests/gateway-requests.ts'

/** Holds a Durable Object, so that it answers nobody until it is let go. */
export async function holdObject(stub: DurableObjectStub): Promise<{ release: () => Promise<void> }> {
  let isHeld = false
  let isOver = false
  const held = runInDurableObject(stub, (_instance, state) =>
    state.blockConcurrencyWhile(async () => {
      isHeld = true
      while (!isOver) await new Promise((resolve) => setTimeout(resolve, 10))
    }),
  )
  await until('it to be held', async () => isHeld || undefined)
  return {
    async release() {
      isOver = true
      await held
    },
  }
}
