import { useModel, NavigationProvider } from '../navigation/navigation.tsx'
import { DataProvider } from '../data/data.tsx'
import { SessionProvider, useSessionState } from '../session/session.tsx'
import { Skeleton } from '../components/notices.tsx'
import { ToastProvider } from '../components/toast.tsx'
import { SignInPage } from '../pages/sign-in/sign-in-page.tsx'
import { Outlet } from './outlet.tsx'
import { Shell } from './shell.tsx'

/** The whole dashboard. */
export function App() {
  return (
    <NavigationProvider>
      <SessionProvider>
        <ToastProvider>
          <SignedIn />
        </ToastProvider>
      </SessionProvider>
    </NavigationProvider>
  )
}

/** Shows the pages to whoever is signed in, and the sign-in to others. */
function SignedIn() {
  const { current, client } = useSessionState()
  const model = useModel()
  if (current.state === 'checking')
    return (
      <main class="page page-alone">
        <Skeleton />
      </main>
    )
  if (current.state === 'signed-out')
    return <SignInPage {...(current.reason === undefined ? {} : { reason: current.reason })} />
  return (
    <DataProvider client={client} model={model} receivesEvents={current.session.role !== 'tenant'}>
      <Shell>
        <Outlet />
      </Shell>
    </DataProvider>
  )
}
