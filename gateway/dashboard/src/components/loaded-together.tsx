import type { ComponentChildren } from 'preact'
import type { Resource } from '../data/resource.ts'
import { Failing } from './notices.tsx'

interface LoadedTogetherProps {
  resources: readonly Resource<unknown>[]
  children: ComponentChildren
}

/** Shows one error if all resources of a page failed; else the page, whose parts show their own states. */
export function LoadedTogether({ resources, children }: LoadedTogetherProps) {
  const [first] = resources
  const isBroken = resources.every(({ value, error }) => value === undefined && error && error.status !== 403)
  if (!isBroken || !first?.error) return <>{children}</>
  return (
    <Failing
      error={first.error}
      reload={() => {
        for (const { reload } of resources) reload()
      }}
    />
  )
}
