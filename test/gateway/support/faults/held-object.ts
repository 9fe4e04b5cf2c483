import { runInDurableObject } from 'cloudflare:test'
import { until } from '../requests/gateway-requests.ts'

/** Blocks a Durable Object, so that it answers no request until it is released. */
export async function blockObject(stub: DurableObjectStub): Promise<{ release: () => Promise<void> }> {
  let isHeld = false
  let isOver = false
  const held = runInDurableObject(stub, (_instance, state) =>
    state.blockConcurrencyWhile(async () => {
      isHeld = true
      while (!isOver) await new Promise((resolve) => setTimeout(resolve, 10))
    }),
  )
  await until('the object to be blocked', async () => isHeld || undefined)
  return {
    async release() {
      isOver = true
      await held
    },
  }
}
