import { reset, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'

/** The Durable Objects that were called since the bindings were emptied. It outlives the modules, which each file loads anew. */
const called = (globalThis.calledObjects ??= recordCalls())

/**
 * Deletes all rows, objects and data of Durable Objects, and ends what these are doing. The database has no tables then.
 * Messages of queues stay, and workflows go on: one finds its update no more at its next step, and ends.
 */
export async function emptyBindings(): Promise<void> {
  const objects = [...called.values()]
  called.clear()
  // `reset` empties the objects that are running. One that was evicted, because it was idle, would keep its data.
  const running = Promise.allSettled([
    ...objects.map(({ namespace, id }) => runInDurableObject(namespace.get(id), () => undefined)),
    env.DB.prepare('SELECT 1').run(),
    env.ARTIFACTS.list({ limit: 1 }),
  ])
  // One that answers nothing is running.
  await Promise.race([running, scheduler.wait(10_000)])
  called.clear()
  await reset()
}

/** Has the namespaces of Durable Objects record which objects are asked for. */
function recordCalls(): NonNullable<typeof globalThis.calledObjects> {
  const objects: NonNullable<typeof globalThis.calledObjects> = new Map()
  const prototype = Object.getPrototypeOf(env.FLEET) as DurableObjectNamespace
  // oxlint-disable-next-line typescript/unbound-method -- it is called with the namespace as `this`
  const get = prototype.get
  prototype.get = function (this: DurableObjectNamespace, id, ...options) {
    objects.set(id.toString(), { namespace: this, id })
    return get.call(this, id, ...options)
  }
  return objects
}
