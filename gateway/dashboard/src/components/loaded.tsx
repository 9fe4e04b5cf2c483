import type { ComponentChildren, VNode } from 'preact'
import { stateOf, type Resource } from '../data/resource.ts'
import { useNow } from '../data/now.ts'
import { Empty, Failing, Forbidden, Skeleton, Stale } from './notices.tsx'

interface LoadedProps<T> {
  resource: Resource<T>
  children: (value: T) => ComponentChildren
  /** Shown while it loads, in the size of what comes. Default: three lines. */
  skeleton?: VNode
  /** Shown instead of the children when the gateway knows nothing of this name (404). */
  missing?: ComponentChildren
  /** Shown above the children when nothing new came for long. Default: true; false where the page tells already. */
  showsStale?: boolean
}

/** Shows a resource in each of its states: loading, live, stale, failing, forbidden, missing. */
export function Loaded<T>({ resource, children, skeleton, missing, showsStale = true }: LoadedProps<T>) {
  const state = stateOf(resource, useNow(5_000))
  const { value, error, receivedAtMs, reload } = resource
  if (state === 'forbidden') return <Forbidden {...(error ? { message: error.message } : {})} />
  if (state === 'missing')
    return <>{missing ?? <Empty title={error?.message ?? 'There is nothing of this name.'} />}</>
  if (value === undefined)
    return error ? <Failing error={error} reload={reload} /> : (skeleton ?? <Skeleton />)
  return (
    <>
      {state === 'stale' && showsStale && <Stale receivedAtMs={receivedAtMs} error={error} />}
      {children(value)}
    </>
  )
}
