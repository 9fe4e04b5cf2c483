/** Counts the calls that Cloudflare limits: those of D1, R2, Durable Objects, queues and Workflows, and each statement of a batch. */
import type { Bindings } from '../../../../gateway/src/contracts/bindings.ts'

/** Bindings, and how many calls were made by them. */
export interface CountedBindings {
  bindings: Bindings
  /** Returns the calls since it was called last: all, and those of reservoirs. */
  take(): { all: number; reservoirs: number }
}

/** Wraps bindings so that calls by them are counted. */
export function countCalls(inner: Bindings): CountedBindings {
  let all = 0
  let reservoirs = 0
  const statements = new WeakMap<object, D1PreparedStatement>()

  /** Counts each call of a method, unless `ofMethod` handles it. */
  const wrap = <T extends object>(
    target: T,
    count: () => void,
    ofMethod: Record<string, (...values: never[]) => unknown> = {},
  ): T =>
    new Proxy(target, {
      get(object, name) {
        const own = typeof name === 'string' ? ofMethod[name] : undefined
        if (own) return own
        const value: unknown = Reflect.get(object, name)
        if (typeof value !== 'function') return value
        return (...values: unknown[]) => {
          count()
          // A stub's methods are no ordinary functions: they have neither `call` nor `apply`.
          return (object as Record<PropertyKey, (...all: unknown[]) => unknown>)[name]?.(...values)
        }
      },
    })
  const countOne = () => {
    all += 1
  }
  const statement = (prepared: D1PreparedStatement): D1PreparedStatement => {
    const wrapped = wrap(prepared, countOne, {
      bind: (...values: never[]) => statement(prepared.bind(...values)),
    })
    statements.set(wrapped, prepared)
    return wrapped
  }
  const database = wrap(inner.DB, countOne, {
    prepare: (query: string) => statement(inner.DB.prepare(query)),
    // Cloudflare does not say that a batch counts as one.
    batch: (list: D1PreparedStatement[]) => {
      all += list.length
      return inner.DB.batch(list.map((each) => statements.get(each) ?? each))
    },
  })
  const objects = <Stub extends Rpc.DurableObjectBranded>(
    namespace: DurableObjectNamespace<Stub>,
    count: () => void,
  ): DurableObjectNamespace<Stub> =>
    wrap(namespace, () => undefined, {
      get: (id: DurableObjectId) => wrap(namespace.get(id), count),
    })
  const bindings: Bindings = {
    ...inner,
    DB: database,
    ARTIFACTS: wrap(inner.ARTIFACTS, countOne),
    SAMPLES: wrap(inner.SAMPLES, countOne),
    UPDATE_WORKFLOW: wrap(inner.UPDATE_WORKFLOW, countOne),
    FLEET: objects(inner.FLEET, countOne),
    RESERVOIR: objects(inner.RESERVOIR, () => {
      countOne()
      reservoirs += 1
    }),
    RESPONSE_CACHE: objects(inner.RESPONSE_CACHE, countOne),
  }
  return {
    bindings,
    take() {
      const taken = { all, reservoirs }
      all = 0
      reservoirs = 0
      return taken
    },
  }
}
