import type { Deps } from '../contracts/bindings.ts'
import type { CallBudget } from '../contracts/call-budget.ts'
import { openDatabase } from '../storage/db/open-database.ts'

/**
 * Returns dependencies whose calls take from a budget, and throw `CallsUsedUp` when it has none left. Calls of the external
 * recogniser are not counted: no task makes any.
 */
export function meterDeps(deps: Deps, calls: CallBudget): Deps {
  const takeOne = () => calls.take(1)
  return {
    ...deps,
    calls,
    db: openDatabase(meterDatabase(deps.db.$client, calls)),
    artifacts: meterMethods(deps.artifacts, takeOne),
    samples: meterMethods(deps.samples, takeOne),
    updateWorkflow: meterMethods(deps.updateWorkflow, takeOne),
    get fleet() {
      return meterMethods(deps.fleet, takeOne)
    },
    reservoir: (domain) => meterMethods(deps.reservoir(domain), takeOne),
    responseCache: (tenant) => meterMethods(deps.responseCache(tenant), takeOne),
    nodeFetch(url, init) {
      takeOne()
      return deps.nodeFetch(url, init)
    },
  }
}

/**
 * Returns a database of which each statement takes a call when it runs. Each statement of a batch does, because Cloudflare does not
 * say that a batch counts as one query.
 */
function meterDatabase(database: D1Database, calls: CallBudget): D1Database {
  const originals = new WeakMap<D1PreparedStatement, D1PreparedStatement>()
  const statement = (original: D1PreparedStatement): D1PreparedStatement => {
    const metered = meterMethods(original, () => calls.take(1), {
      bind: (...values: unknown[]) => statement(original.bind(...values)),
    })
    originals.set(metered, original)
    return metered
  }
  return meterMethods(database, () => calls.take(1), {
    prepare: (query: string) => statement(database.prepare(query)),
    batch: (list: D1PreparedStatement[]) => {
      calls.take(list.length)
      return database.batch(list.map((each) => originals.get(each) ?? each))
    },
  })
}

/** Returns an object of which each call of a method takes a call first, except those of `methods`, which replace its own. */
function meterMethods<Target extends object>(
  target: Target,
  take: () => void,
  methods: Readonly<Record<string, (...values: never[]) => unknown>> = {},
): Target {
  return new Proxy(target, {
    get(object, name) {
      if (typeof name === 'string' && Object.hasOwn(methods, name)) return methods[name]
      const value: unknown = Reflect.get(object, name)
      if (typeof value !== 'function') return value
      return (...values: unknown[]) => {
        take()
        // A stub's methods have neither `call` nor `apply`.
        return Reflect.apply(value, object, values) as unknown
      }
    },
  })
}
