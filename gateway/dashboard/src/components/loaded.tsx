import type { ComponentChildren, VNode } from 'preact'
import { stateOf, type Resource } from '../data/resource.ts'
import { Empty, Failing, Forbidden, Skeleton } from './notices.tsx'

interface LoadedProps<T> {
  resource: Resource<T>
  children: (value: T) => ComponentChildren
  /** Shown while it loads, in the size of the content. Default: three lines. */
  skeleton?: VNode
  /** Shown instead of the children when the gateway knows nothing of this name (404). */
  missing?: ComponentChildren
}

/**
 * Shows a resource in each of its states: loading, live, failing, forbidden, missing. Values that became stale stay; the shell
 * says so.
 */
export function Loaded<T>({ resource, children, skeleton, missing }: LoadedProps<T>) {
  const state = stateOf(resource)
  const { value, error, reload } = resource
  if (state === 'forbidden') return <Forbidden {...(error ? { message: error.message } : {})} />
  if (state === 'missing')
    return <>{missing ?? <Empty title={error?.message ?? 'Nothing has this name.'} />}</>
  if (value === undefined)
    return error ? <Failing error={error} reload={reload} /> : (skeleton ?? <Skeleton />)
  return <>{children(value)}</>
}
