import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  // `weft deploy` says where the app will be.
  base: process.env.WEFT_BASE ?? "/apps/crm/",
  // While one develops (`npx vite`), the API is that of a server on this machine.
  server: { proxy: { "/api": "http://localhost:9100" } },
});
