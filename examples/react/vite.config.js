import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [react()],
  // One React for the example and for the hooks, which npm links from this repository.
  resolve: { dedupe: ['react', 'react-dom'] },
});
